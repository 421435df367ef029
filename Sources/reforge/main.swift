print("reforge")
