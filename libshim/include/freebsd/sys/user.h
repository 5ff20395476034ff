/*
 * The host's <sys/user.h>, whose PAGE_MASK is the complement of FreeBSD's.
 */
#pragma GCC system_header
#include_next <sys/user.h>

#undef VMSHIM_FREEBSD_MACHINE_PARAM_H
#undef trunc_page
#undef round_page
#undef atop
#undef ptoa
#include <machine/param.h>
