// Shim for Debian's C library.
#include <lzma.h>
