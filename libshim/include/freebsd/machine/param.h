/*
 * The page, as FreeBSD spells it. PAGE_MASK is the offset's bits, not the page's; PAGE_SIZE is an
 * int, so that sources may negate it.
 */
#ifndef VMSHIM_FREEBSD_MACHINE_PARAM_H
#define VMSHIM_FREEBSD_MACHINE_PARAM_H

#include <sys/types.h>

#undef PAGE_SHIFT
#undef PAGE_SIZE
#undef PAGE_MASK
#define PAGE_SHIFT 12
#define PAGE_SIZE (1 << PAGE_SHIFT)
#define PAGE_MASK (PAGE_SIZE - 1)

#define trunc_page(x) ((vm_offset_t)(x) & ~(vm_offset_t)PAGE_MASK)
#define round_page(x) (((vm_offset_t)(x) + PAGE_MASK) & ~(vm_offset_t)PAGE_MASK)
#define atop(x) ((vm_offset_t)(x) >> PAGE_SHIFT)
#define ptoa(x) ((vm_offset_t)(x) << PAGE_SHIFT)

#endif
