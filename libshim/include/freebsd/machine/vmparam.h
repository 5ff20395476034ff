/* Where programs may map. These are the bounds that the server gives them, not FreeBSD's. */
#ifndef VMSHIM_FREEBSD_MACHINE_VMPARAM_H
#define VMSHIM_FREEBSD_MACHINE_VMPARAM_H

#include <sys/types.h>

#define VM_MIN_ADDRESS ((vm_offset_t)0)
#define VM_MINUSER_ADDRESS VM_MIN_ADDRESS
#if defined(__aarch64__)
#define VM_MAXUSER_ADDRESS ((vm_offset_t)1 << 48)
#else
#define VM_MAXUSER_ADDRESS ((vm_offset_t)0x7ffffffff000)
#endif
#define VM_MAX_ADDRESS VM_MAXUSER_ADDRESS

#endif
