/* The host's <sys/types.h> and the types of memory that FreeBSD's has besides. */
#ifndef VMSHIM_FREEBSD_SYS_TYPES_H
#define VMSHIM_FREEBSD_SYS_TYPES_H
#pragma GCC system_header
#include_next <sys/types.h>

typedef __UINTPTR_TYPE__ vm_offset_t;
typedef __UINTPTR_TYPE__ vm_size_t;
typedef __UINT64_TYPE__ vm_paddr_t;
typedef __UINT64_TYPE__ vm_pindex_t;
typedef __INT64_TYPE__ vm_ooffset_t;

#endif
