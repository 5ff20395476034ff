// One vocabulary for two sets of numbers. The rules are compiled with the host's headers and with
// FreeBSD's numbers; where one meaning has two names, it has a third one here.
#pragma once

#include <stdint.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#ifdef RULES_FREEBSD_NUMBERS

#define NUMBERS "freebsd"
#define GROWS_DOWN MAP_STACK
#define FIXED_EXCLUSIVELY (MAP_FIXED | MAP_EXCL)
#define ADVISE_OUT_OF_CORE_FILES MADV_NOCORE
#define ADVISE_INTO_CORE_FILES MADV_CORE

#else

#define NUMBERS "host"
#define GROWS_DOWN MAP_GROWSDOWN
#define FIXED_EXCLUSIVELY MAP_FIXED_NOREPLACE
#define ADVISE_OUT_OF_CORE_FILES MADV_DONTDUMP
#define ADVISE_INTO_CORE_FILES MADV_DODUMP

// FreeBSD's calls that the library adds for programs with the host's numbers, too. Where there is
// no library, there are no such calls.
#define INHERIT_SHARE 0
#define INHERIT_COPY 1
#define INHERIT_NONE 2
#define INHERIT_ZERO 3
int minherit(void* address, size_t length, int inherit) __attribute__((weak));

// Not in Debian 12's headers.
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

#endif

void* sstk(int increment) __attribute__((weak));
void* ommap(void* address, int length, int protection, int flags, int descriptor, long position)
    __attribute__((weak));
int ogetpagesize(void) __attribute__((weak));

/// Not a protection of either system, nor of PROT_MAX().
#define UNKNOWN_PROTECTION 0x40
/// Not a flag of either system.
#define UNKNOWN_FLAG 0x200000
#define READ_WRITE (PROT_READ | PROT_WRITE)
#define PRIVATE_ANONYMOUS (MAP_PRIVATE | MAP_ANON)
#define SHARED_ANONYMOUS (MAP_SHARED | MAP_ANON)
