// Shim for Debian's C library.
#include <blkid/blkid.h>
