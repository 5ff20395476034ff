/* FreeBSD's <vm/vm_param.h>: the machine's bounds. */
#ifndef VMSHIM_FREEBSD_VM_VM_PARAM_H
#define VMSHIM_FREEBSD_VM_VM_PARAM_H

#include <machine/vmparam.h>

#endif
