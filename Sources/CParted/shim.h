// Shim for Debian's C library.
#include <parted/parted.h>
