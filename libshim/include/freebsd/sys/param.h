/* The host's <sys/param.h> and what FreeBSD's has besides. */
#ifndef VMSHIM_FREEBSD_SYS_PARAM_H
#define VMSHIM_FREEBSD_SYS_PARAM_H
#pragma GCC system_header
#include_next <sys/param.h>

#include <machine/param.h>

#ifndef nitems
#define nitems(array) (sizeof((array)) / sizeof((array)[0]))
#endif
#ifndef rounddown
#define rounddown(x, y) (((x) / (y)) * (y))
#endif
/* y is a power of two; the type is that of x. */
#ifndef rounddown2
#define rounddown2(x, y) ((x) & ~((__typeof__(x))(y) - 1))
#endif
#ifndef roundup2
#define roundup2(x, y) (((x) + ((__typeof__(x))(y) - 1)) & ~((__typeof__(x))(y) - 1))
#endif

#define ctob(pages) ((pages) << PAGE_SHIFT)
#define btoc(bytes) (((vm_offset_t)(bytes) + PAGE_MASK) >> PAGE_SHIFT)

#endif
