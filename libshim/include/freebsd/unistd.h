/*
 * The host's <unistd.h>, with those of its functions bound to libvmshim that FreeBSD counts to
 * memory. A pragma rather than declarations of our own, which would have to repeat all that the
 * host's promise.
 */
#ifndef VMSHIM_FREEBSD_UNISTD_H
#define VMSHIM_FREEBSD_UNISTD_H

#pragma redefine_extname brk freebsd_brk
#pragma redefine_extname sbrk freebsd_sbrk
#pragma redefine_extname getpagesize freebsd_getpagesize

#pragma GCC system_header
#include_next <unistd.h>

#endif
