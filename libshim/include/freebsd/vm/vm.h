/* FreeBSD's types and constants of the virtual memory system, as far as programs may use them. */
#ifndef VMSHIM_FREEBSD_VM_VM_H
#define VMSHIM_FREEBSD_VM_VM_H

#include <sys/types.h>

typedef char vm_inherit_t;
#define VM_INHERIT_SHARE ((vm_inherit_t)0)
#define VM_INHERIT_COPY ((vm_inherit_t)1)
#define VM_INHERIT_NONE ((vm_inherit_t)2)
#define VM_INHERIT_ZERO ((vm_inherit_t)3)
#define VM_INHERIT_DEFAULT VM_INHERIT_COPY

typedef unsigned char vm_prot_t;
#define VM_PROT_NONE ((vm_prot_t)0x00)
#define VM_PROT_READ ((vm_prot_t)0x01)
#define VM_PROT_WRITE ((vm_prot_t)0x02)
#define VM_PROT_EXECUTE ((vm_prot_t)0x04)
#define VM_PROT_COPY ((vm_prot_t)0x08)
#define VM_PROT_RW (VM_PROT_READ | VM_PROT_WRITE)
#define VM_PROT_ALL (VM_PROT_READ | VM_PROT_WRITE | VM_PROT_EXECUTE)
#define VM_PROT_DEFAULT VM_PROT_ALL

#endif
