// Shim for Debian's C library.
#include <zstd.h>
