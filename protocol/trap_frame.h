// Trap frames: what the shim inside a program and the server say to each other.
//
// The program socket is AF_UNIX, SOCK_SEQPACKET: one message is one frame, whole. Frames are fixed
// structs in the machine's byte order, like the registers of a system call, so that the shim needs
// no serialization library, and so that the server can check one with a few comparisons.
//
// A session:
//   1. the server, as soon as it has accepted:   Welcome + the descriptor of /dev/userfaultfd
//   2. the program:                               Begin   + its userfaultfd, maps and pagemap
//   3. the server:                                TrapReply (error, or value = space number,
//                                                 and the descriptor of its FileBoard)
//   4. and:                                       TrapReply (with the descriptor of the program's
//                                                 NoteRing, where it has one)
//   5. then as often as needed:                   TrapRequest (+ a file)  ->  TrapReply (+ a memfd)
//
// A reply carries host operations: page-table work that only the program itself can do, in order.
// Where kReplyAcknowledge is set, the program answers with a TrapRequest of kCallContinue when they
// are done; where it is not, the call ends with them, and the program sends kCallContinue only if
// one of them failed. kReplyFinal marks the frame that ends the call.
//
// Requests with kRequestDone stand outside of that: they can come while a call is under way, and nobody
// waits for them. What a program does so it has done already; the server's map follows. It may change
// the protection of private memory that it knows, unlock it, unmap it, and map more in its *lease*: a range
// that the server keeps free for it. The last answer to each call says where that is from then on; a
// program that has no answer to its last call has none.
//
// A forked child shares its parent's socket only to hand over one of its own: it sends Adopt (with
// its end of a new socket pair) over the inherited one, and is answered on the new one: a TrapReply with
// its userfaultfd, one with its NoteRing, where it has one, and what it has to set right in its memory.
//
// Where memory is limited (kWelcomePages), a thread of the program takes pages of private memory out of
// its address space when the server asks: nobody else can do that. It has a socket and a pipe of its
// own to the server, which come with a StubHello over the program's. A StubOrder is answered by the
// pages' content in the pipe and a StubAnswer behind it.
//
// This header is C-compatible in layout and includes nothing of the project.
#pragma once

#include <stdint.h>

namespace protocol {

inline constexpr uint32_t kMagic = 0x766d7366;  // "vmsf"
inline constexpr uint32_t kVersion = 12;

/// Whose numbers the arguments of a request are in. errno is libc's, the host's, with either.
enum Abi : uint16_t { kAbiLinux = 0, kAbiFreebsd = 1, kAbiCount };

enum CallNumber : uint16_t {
  kCallContinue = 0,  ///< args: 0 index of the host operation that failed or -1, 1 its errno
  kCallMmap,
  kCallMunmap,
  kCallMremap,
  kCallMprotect,
  kCallMsync,
  kCallMadvise,
  kCallPosixMadvise,
  kCallMincore,  ///< args[3]: pages already answered
  kCallMlock,
  kCallMlock2,
  kCallMunlock,
  kCallMlockall,
  kCallMunlockall,
  kCallBrk,
  kCallSbrk,
  kCallSstk,
  kCallGetpagesize,
  kCallMinherit,
  /// A thread is about to fork: keep what a child is to have a copy of, until it says kCallForked.
  /// args: 0 the thread.
  kCallFork,
  kCallExit,  ///< the program is about to end by itself: write back what it stored
  kCallOmmap,  ///< 4.3BSD's mmap, with its own protection bits and flags
  kCallForked,  ///< the fork that this thread announced is over; args: 0 the thread
  /// Private memory becomes the host's own, with what is in it: the program wants a userfaultfd of
  /// its own there, and a range has only one. args: address and length.
  kCallHandOver,

  // What a program does to files otherwise than through mappings. Files are named by device and
  // inode; a range by its first byte and the one behind its last.

  /// It is about to read: what programs stored into mappings goes to the file first. args: 0 device,
  /// 1 inode, 2 and 3 the range.
  kCallFileRead,
  /// It is about to change the file; until it says kCallFileChanged no page of the range goes there.
  /// args: as kCallFileRead. Value: a number for kCallFileChanged; 0 when nobody maps the file.
  kCallFileChange,
  /// That is over. args: 0 the number, 1 and 2 the range that has another content now, for which the
  /// descriptor comes along. Value: 1 when pages went to the file all the same, because it took too
  /// long and somebody waited for them: the change has to be made again.
  kCallFileChanged,
  /// It has taken a lock on a file: what others changed before that shows in its mappings.
  kCallLocked,
  /// It is about to give up a lock: what it stored goes to the files.
  kCallUnlock,
  /// Nothing but this: what the program has noted (note_ring.h) has been read once it is answered. With
  /// kRequestDone there is much to be read.
  kCallNotes,
  kCallCount
};

/// Most bytes of one mapping in a lease.
inline constexpr uint64_t kMostLeasedBytes = 4 << 20;

/// Most host operations in one reply, and most bytes of data (mincore's vector).
inline constexpr uint32_t kMaxHostOps = 16;
inline constexpr uint32_t kMaxReplyData = 4096;

struct Welcome {
  uint32_t magic;
  uint32_t version;
  uint32_t page_size;
  int32_t error;  ///< errno: why the server cannot serve, or 0
  uint32_t flags;
};
enum WelcomeFlag : uint32_t {
  kWelcomeDone = 1,  ///< kRequestDone is allowed: there is no policy to ask first
  kWelcomePages = 2,  ///< memory is limited: the program takes pages out when asked (StubHello)
  kWelcomeOvercommits = 4,  ///< mappings of the program's may be more than there is (MAP_NORESERVE)
};

struct Begin {
  uint32_t magic;
  uint32_t version;
  uint64_t nameplate;    ///< one page that a child reads to learn who it is; see Nameplate
  uint64_t program_headers;  ///< AT_PHDR: tells text and data of the program
  uint64_t map_minimum;      ///< lowest and highest address that programs may map
  uint64_t map_maximum;
  uint64_t proc_files;  ///< which of ProcFile come along
};
/// With Begin come the userfaultfd and then those of these that the program could open (one that
/// changed its user may not). The server tries to open the others itself.
enum ProcFile : uint64_t { kProcMaps = 1, kProcPagemap = 2 };

/// What the server writes into the nameplate page of every address space. The page is wiped on
/// fork, and the server fills the child's anew before the child can have read it.
struct Nameplate {
  uint32_t magic;
  uint32_t reserved;
  uint64_t space;
  uint64_t secret[2];
};

struct TrapRequest {
  uint32_t magic;
  uint32_t sequence;
  uint16_t call;
  uint16_t abi;
  uint16_t flags;
  uint16_t reserved;
  uint64_t args[6];
  /// mmap and ommap: soft RLIMIT_AS, hard RLIMIT_DATA; mlock and its kin: soft RLIMIT_MEMLOCK.
  /// mmap of what grows down: soft RLIMIT_STACK as the third.
  uint64_t limits[3];
};
enum RequestFlag : uint16_t {
  kRequestBadDescriptor = 1,  ///< the call named a descriptor that is not open
  kRequestHostRules = 2,      ///< libc's own call: the host's rules, whatever the server's are
  /// The program has done it: the server takes note and does not answer. Only where Welcome allows
  /// that, and only to private memory: mprotect to what is not executable, munmap and munlock of whole pages,
  /// mlock of no more than lock_credit, and mmap at the start of the lease, to be read and written; args: 0 address, 1 bytes, 2 pages that
  /// are there already. From a program that has a ring of notes (note_ring.h) these come there.
  kRequestDone = 4,
  /// The call named a descriptor that the kernel passes to nobody (unix(7), SCM_RIGHTS: io_uring).
  kRequestKernelObject = 8,
  /// Of an mmap: the program would have done it by itself in a lease, had it had the room.
  kRequestLease = 16,
};

/// A child's request for a session of its own. With it come its socket (not over a new connection,
/// which is that socket) and its ProcFiles.
struct Adopt {
  uint32_t magic;
  uint32_t version;
  Nameplate who;
  uint64_t proc_files;
  uint64_t flags;
};
enum AdoptFlag : uint64_t {
  /// The parent had done calls by itself that the server may not have heard of before the fork.
  kAdoptUnheard = 1,
};
inline constexpr uint32_t kAdoptMagic = 0x766d6164;  // "vmad"

/// From the program, outside of a call. With it come the server's end of a socket pair of the kind of
/// the program's own, and the end of a pipe to read from. It takes the place of one before.
struct StubHello {
  uint32_t magic;
  uint32_t version;
  uint32_t most_pages;  ///< of one order: as many as the pipe holds
  uint32_t reserved;
  /// Where kMaxOrderPages pages land that are taken out. Nobody touches what is absent there, but for
  /// the kernel, when the program has all of its memory locked.
  uint64_t hold;
};
inline constexpr uint32_t kStubMagic = 0x766d7374;  // "vmst"
inline constexpr uint32_t kMaxOrderPages = 64;

struct StubOrder {
  enum Kind : uint32_t {
    /// Take out what can be had of these pages, each in one step (UFFDIO_MOVE).
    kMove = 1,
    /// Take out what nobody may store to: the server changes no protection meanwhile.
    kCopy = 2,
    /// Make those that are there the program's own, where a fork shares them. None leaves.
    kUnshare = 3,
  };
  uint64_t address;
  uint32_t pages;
  uint32_t kind;
};

struct StubAnswer {
  uint64_t pages;  ///< bit i: page i has left; its content is in the pipe, in order
};

struct HostOp {
  enum Kind : uint32_t {
    /// Map private memory there, replacing what was; a: protection, b: 1 if that may be more than
    /// there is.
    kReserve,
    kClaim,          ///< the same, but fail with EEXIST if anything is there
    kMapBacking,     ///< map the reply's descriptor; a: file offset, b: MapModes, c: protection
    kMapDescriptor,  ///< map the program's own descriptor; a: file offset, b: protection, c: number
    kRegister,       ///< register with the userfaultfd; a: UFFDIO_REGISTER_MODE_*
    kUnregister,
    kWriteProtect,   ///< arm write tracking
    kProtect,        ///< mprotect; a: protection
    kRelease,        ///< munmap
    kMove,           ///< mremap to address a, same length
    kTakeAway,       ///< the same, but the range stays mapped, empty
    kCopyOut,        ///< write the range to the reply's descriptor; a: file offset
    kAdvise,         ///< madvise; a: the host's advice
    kLock,           ///< mlock2; a: its flags
    kUnlock,
    kHostCall,  ///< do the call itself at the host, on this range; its value is the call's
  };
  uint32_t kind;
  uint32_t may_fail;  ///< if it does, the rest is done all the same
  uint64_t address;
  uint64_t bytes;
  uint64_t a;
  uint64_t b;
  uint64_t c;
};
/// kMapClaim: fail with EEXIST if anything is there.
enum MapMode : uint64_t { kMapPrivate = 0, kMapShared = 1, kMapClaim = 2 };

enum ReplyFlag : uint32_t {
  kReplyFinal = 1,
  kReplyAcknowledge = 2,
  kReplyValueFromHost = 4,  ///< the call's value is that of its kHostCall
  kReplyPrepareForks = 8,   ///< from now on the program says kCallFork before it forks
  kReplyAgain = 16,         ///< room that was to be free was not: make the call again
};

struct TrapReplyHeader {
  uint32_t magic;
  uint32_t sequence;
  int32_t error;  ///< errno, or 0
  uint32_t flags;
  uint64_t value;
  uint32_t op_count;
  uint32_t data_bytes;
  /// With kReplyFinal: what is left of the program's lease; it begins where the next mapping goes. Both
  /// are 0 when there is none.
  uint64_t lease_start;
  uint64_t lease_end;
  /// With kReplyFinal: so many pages the program may lock by itself, under the RLIMIT_MEMLOCK that came
  /// with its last mlock, until its next call.
  uint64_t lock_credit;
};

/// As sent: the header, then `op_count` operations, then `data_bytes` bytes.
struct TrapReply {
  TrapReplyHeader header;
  HostOp ops[kMaxHostOps];
  uint8_t data[kMaxReplyData];
};

inline constexpr uint32_t reply_bytes(uint32_t ops, uint32_t data) {
  return static_cast<uint32_t>(sizeof(TrapReplyHeader)) +
         ops * static_cast<uint32_t>(sizeof(HostOp)) + data;
}

}  // namespace protocol
