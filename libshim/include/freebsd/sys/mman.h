/*
 * Memory management with FreeBSD's numbers, for sources that were written for FreeBSD.
 *
 * It stands in for the host's header of this name: the constants have FreeBSD's values, and the
 * functions have their ordinary names and are bound to libvmshim's freebsd_* symbols. Libraries of
 * the same program that were built with the host's header go on with the host's numbers. The names
 * are those of FreeBSD 7 and 14; whether the server knows what one means is a matter of its
 * personality.
 *
 * errno is the host's: <errno.h> belongs to libc and is shared with all of its other calls, so a
 * call that fails with EAGAIN sets what the host's header calls EAGAIN. Compare with names, not
 * with FreeBSD's numbers.
 */
#ifndef VMSHIM_FREEBSD_SYS_MMAN_H
#define VMSHIM_FREEBSD_SYS_MMAN_H
#ifdef _SYS_MMAN_H
#error "the host's <sys/mman.h> came first: FreeBSD's directory has to be first in the search path"
#endif
#define _SYS_MMAN_H 1

#include <sys/cdefs.h>
#include <sys/types.h>

/* minherit */
#define INHERIT_SHARE 0
#define INHERIT_COPY 1
#define INHERIT_NONE 2
#define INHERIT_ZERO 3

/* Protection; in its upper half what mprotect may ever give. */
#define PROT_NONE 0x00
#define PROT_READ 0x01
#define PROT_WRITE 0x02
#define PROT_EXEC 0x04
#define _PROT_ALL (PROT_READ | PROT_WRITE | PROT_EXEC)
#define PROT_EXTRACT(prot) ((prot) & _PROT_ALL)
#define _PROT_MAX_SHIFT 16
#define PROT_MAX(prot) ((prot) << _PROT_MAX_SHIFT)
#define PROT_MAX_EXTRACT(prot) (((prot) >> _PROT_MAX_SHIFT) & _PROT_ALL)

/* mmap: sharing */
#define MAP_SHARED 0x0001
#define MAP_PRIVATE 0x0002
#define MAP_COPY MAP_PRIVATE

/* mmap: what and where */
#define MAP_FILE 0x0000
#define MAP_FIXED 0x0010
#define MAP_STACK 0x0400
#define MAP_ANON 0x1000
#define MAP_ANONYMOUS MAP_ANON
#define MAP_GUARD 0x00002000
#define MAP_EXCL 0x00004000
#define MAP_32BIT 0x00080000
#define MAP_ALIGNED(n) ((n) << MAP_ALIGNMENT_SHIFT)
#define MAP_ALIGNMENT_SHIFT 24
#define MAP_ALIGNMENT_MASK MAP_ALIGNED(0xff)
#define MAP_ALIGNED_SUPER MAP_ALIGNED(1)

/* mmap: how it is treated */
#define MAP_HASSEMAPHORE 0x0200
#define MAP_NOSYNC 0x0800
#define MAP_NOCORE 0x00020000
#define MAP_PREFAULT_READ 0x00040000

/* mmap: accepted by FreeBSD 7 and without effect; reserved by later ones */
#define MAP_RENAME 0x0020
#define MAP_NORESERVE 0x0040
#define MAP_RESERVED0020 0x0020
#define MAP_RESERVED0040 0x0040
#define MAP_RESERVED0080 0x0080
#define MAP_RESERVED0100 0x0100

#define MAP_FAILED ((void *)-1)

/* msync */
#define MS_SYNC 0x0000
#define MS_ASYNC 0x0001
#define MS_INVALIDATE 0x0002

/* mlockall */
#define MCL_CURRENT 0x0001
#define MCL_FUTURE 0x0002

/* madvise */
#define MADV_NORMAL 0
#define MADV_RANDOM 1
#define MADV_SEQUENTIAL 2
#define MADV_WILLNEED 3
#define MADV_DONTNEED 4
#define MADV_FREE 5
#define MADV_NOSYNC 6
#define MADV_AUTOSYNC 7
#define MADV_NOCORE 8
#define MADV_CORE 9
#define MADV_PROTECT 10

#define POSIX_MADV_NORMAL 0
#define POSIX_MADV_RANDOM 1
#define POSIX_MADV_SEQUENTIAL 2
#define POSIX_MADV_WILLNEED 3
#define POSIX_MADV_DONTNEED 4

/* mincore. FreeBSD 7 has one bit for large pages, later ones two with the size's index. */
#define MINCORE_INCORE 0x01
#define MINCORE_REFERENCED 0x02
#define MINCORE_MODIFIED 0x04
#define MINCORE_REFERENCED_OTHER 0x08
#define MINCORE_MODIFIED_OTHER 0x10
#define MINCORE_SUPER 0x60
#define MINCORE_PSIND(i) (((i) << 5) & MINCORE_SUPER)

/* shm_open: memory without a name */
#define SHM_ANON ((char *)1)

/* memfd_create: the host's are the same */
#define MFD_CLOEXEC 0x00000001
#define MFD_ALLOW_SEALING 0x00000002
#define MFD_HUGETLB 0x00000004
#define MFD_HUGE_SHIFT 26
#define MFD_HUGE_MASK 0xfc000000

__BEGIN_DECLS
void *mmap(void *, size_t, int, int, int, off_t) __asm__("freebsd_mmap");
int munmap(void *, size_t) __asm__("freebsd_munmap");
int mprotect(const void *, size_t, int) __asm__("freebsd_mprotect");
int msync(void *, size_t, int) __asm__("freebsd_msync");
int madvise(void *, size_t, int) __asm__("freebsd_madvise");
int posix_madvise(void *, size_t, int) __asm__("freebsd_posix_madvise");
int mincore(const void *, size_t, char *) __asm__("freebsd_mincore");
int minherit(void *, size_t, int) __asm__("freebsd_minherit");
int mlock(const void *, size_t) __asm__("freebsd_mlock");
int munlock(const void *, size_t) __asm__("freebsd_munlock");
int mlockall(int) __asm__("freebsd_mlockall");
int munlockall(void) __asm__("freebsd_munlockall");
int getpagesizes(size_t *, int) __asm__("freebsd_getpagesizes");
int shm_open(const char *, int, mode_t) __asm__("freebsd_shm_open");

/* libc's own: nothing in them differs. */
int shm_unlink(const char *);
int memfd_create(const char *, unsigned int);
__END_DECLS

#endif
