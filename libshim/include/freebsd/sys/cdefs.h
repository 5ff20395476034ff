/*
 * The host's <sys/cdefs.h> and the macros that FreeBSD's has besides. Every header of libc includes
 * this one, so it defines nothing that those use as a name: __used is a member in <spawn.h>.
 */
#ifndef VMSHIM_FREEBSD_SYS_CDEFS_H
#define VMSHIM_FREEBSD_SYS_CDEFS_H
#pragma GCC system_header
#include_next <sys/cdefs.h>

/* Identification strings are not kept. */
#ifndef __FBSDID
#define __FBSDID(s) struct __hack
#endif
#ifndef __RCSID
#define __RCSID(s) struct __hack
#endif
#ifndef __SCCSID
#define __SCCSID(s) struct __hack
#endif
#ifndef __COPYRIGHT
#define __COPYRIGHT(s) struct __hack
#endif

#ifndef __unused
#define __unused __attribute__((__unused__))
#endif
#ifndef __dead2
#define __dead2 __attribute__((__noreturn__))
#endif
#ifndef __pure2
#define __pure2 __attribute__((__const__))
#endif
#ifndef __packed
#define __packed __attribute__((__packed__))
#endif
#ifndef __aligned
#define __aligned(bytes) __attribute__((__aligned__(bytes)))
#endif
#ifndef __section
#define __section(name) __attribute__((__section__(name)))
#endif
#ifndef __noinline
#define __noinline __attribute__((__noinline__))
#endif
#ifndef __malloc_like
#define __malloc_like __attribute__((__malloc__))
#endif
#ifndef __result_use_check
#define __result_use_check __attribute__((__warn_unused_result__))
#endif
#ifndef __printflike
#define __printflike(format, first) __attribute__((__format__(__printf__, format, first)))
#endif
#ifndef __scanflike
#define __scanflike(format, first) __attribute__((__format__(__scanf__, format, first)))
#endif
#ifndef __printf0like
#define __printf0like(format, first)
#endif
#ifndef __predict_true
#define __predict_true(condition) __builtin_expect((condition) != 0, 1)
#define __predict_false(condition) __builtin_expect((condition) != 0, 0)
#endif
#ifndef __unreachable
#define __unreachable() __builtin_unreachable()
#endif

#ifndef __XSTRING
#define __XSTRING(x) __STRING(x)
#endif
#ifndef __DECONST
#define __DECONST(type, value) ((type)(__UINTPTR_TYPE__)(const void *)(value))
#define __DEVOLATILE(type, value) ((type)(__UINTPTR_TYPE__)(volatile void *)(value))
#define __DEQUALIFY(type, value) ((type)(__UINTPTR_TYPE__)(const volatile void *)(value))
#endif

#endif
