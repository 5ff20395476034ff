@0xb2f0c5a1d7e94c31;
# What vmserver offers over its RPC socket (the program socket's path with ".rpc" appended):
# pagers register here, tools look inside from here.
#
# The socket belongs to the server's user alone (mode 0600), so whoever can connect may do
# everything below.

using Cxx = import "/capnp/c++.capnp";
using Pager = import "pager.capnp";
$Cxx.namespace("protocol");

interface VmServer {
  # The bootstrap capability of the RPC socket.

  registerPager @0 (kind :Pager.Kind, name :Text, pager :Pager.Pager, claims :List(Pager.Claim),
                    keeps :Bool)
      -> (registration :Registration);
  # Offers a pager. The first one of a kind serves it; later ones wait in line and take over when
  # the one before goes. The pager stays registered until its connection ends or the registration
  # is dropped. `name` is for log lines. `claims` names files that belong to this pager although
  # they look like regular ones. `keeps`: what is written to it outlives it, and the next pager may
  # have it; so nothing of it is given up when the pager goes.

  control @1 () -> (control :Control);
}

interface Registration {}
# Holding it keeps a pager registered.

interface Control {
  # The view into a running server.

  spaces @0 () -> (spaces :List(Space));
  # Every address space, in the order of creation.

  map @1 (pid :Int32) -> (found :Bool, entries :List(Entry));
  # The address space of one process, by address. `found` is false when it is not served.

  statistics @2 () -> (statistics :Statistics);

  framebuffer @3 (name :Text) -> (found :Bool, framebuffer :Pager.Framebuffer);

  drain @4 () -> (spaces :UInt32);
  # The server ends by itself once its last address space has gone. Returns how many there are
  # now.

  traceExec @5 (sink :ExecSink) -> (trace :ExecTrace);
  # Tells `sink` of executable mappings that come and go from now on, for as long as `trace` is held
  # and `sink` answers without an error.

  limit @6 (pid :Int32, pages :UInt64) -> (outcome :LimitOutcome);
  # The most pages of private memory that a process, and those it forks from now on, shall have in
  # memory; 0 for no limit.
}

enum LimitOutcome {
  done @0;
  notServed @1;
  unlimitedServer @2;       # it was started without --memory, and nothing leaves memory
}

interface ExecSink {
  # What a tool listens with. A slow one loses events; it never holds up a program.

  event @0 (event :ExecEvent) -> ();
}

interface ExecTrace {}
# Holding it keeps a tool listening.

struct ExecEvent {
  kind @0 :Kind;
  pid @1 :Int32;      # 0 when it is not known
  address @2 :UInt64; # of the first page
  bytes @3 :UInt64;   # whole pages
  path @4 :Text;      # of the file; of `unmapped`, of the first executable mapping in the range
  lost @5 :UInt64;    # events that the sink was too slow for, right before this one

  enum Kind {
    mapped @0;        # an mmap of a file or device with the right to execute
    unmapped @1;      # a munmap of a range with something executable in it
  }
}

struct Space {
  pid @0 :Int32;            # 0 while a forked child has not been heard of yet
  parent @1 :Int32;         # process that forked it, or 0
  userId @2 :UInt32;
  command @3 :Text;         # /proc/PID/comm
  entries @4 :UInt32;
  bytes @5 :UInt64;         # sum of all managed entries
  residentPages @6 :UInt64; # managed pages that the program has mapped now
  faults @7 :UInt64;
  personality @8 :Text;
  # Where memory is limited:
  memoryPages @9 :UInt64;   # of private memory, as they are counted
  swappedPages @10 :UInt64;
  limitPages @11 :UInt64;   # its own limit; 0 for none
}

struct Entry {
  start @0 :UInt64;
  end @1 :UInt64;
  residentPages @2 :UInt64;
  protection @3 :UInt8;     # 1 read, 2 write, 4 execute
  maximum @4 :UInt8;
  flags @5 :List(Text);     # such as "shared", "cow", "nosync", "nocore", "wired", "stack"
  type @6 :Text;            # "anonymous", "shared", "file", "device", "gap", "guard", "lease", "host"
  path @7 :Text;
  offset @8 :UInt64;        # bytes into the object
}

struct CallCount {
  name @0 :Text;
  count @1 :UInt64;
}

struct Statistics {
  # All counts since the server started; pages are 4 KiB.
  faults @0 :UInt64;            # fault messages handled
  zeroFills @1 :UInt64;         # pages given out filled with zeroes
  pageins @2 :UInt64;           # pages supplied by pagers
  pageouts @3 :UInt64;          # pages handed to pagers
  calls @4 :List(CallCount);    # requests by name
  spaces @5 :UInt64;            # address spaces now
  residentPages @6 :UInt64;     # pages that programs and objects hold now
  memoryLimitPages @7 :UInt64;  # --memory; 0 for no limit
  objects @8 :UInt64;           # objects now
  forks @9 :UInt64;
  failedFaults @10 :UInt64;     # faults answered with a bus error
  pagers @11 :UInt64;           # pagers registered now
  sessionsRejected @12 :UInt64; # sessions ended for what they sent
  paging @13 :Paging;          # where memory is limited
}

struct Paging {
  # Pages. What programs and objects have, and what has left programs, add up to what is in use.
  freePages @0 :UInt64;
  privatePages @1 :UInt64;    # of private memory, in programs
  objectPages @2 :UInt64;     # of files and of what programs share
  inactivePages @3 :UInt64;   # have left programs, and no pager has them
  laundryPages @4 :UInt64;    # on their way to the pager
  cleanPages @5 :UInt64;      # with the pager, and in memory
  swappedPages @6 :UInt64;    # with the pager alone
  lostPages @7 :UInt64;       # were with a pager that died
  wiredPages @8 :UInt64;
  # Since the server started.
  deactivations @9 :UInt64;   # private pages that left a program
  reactivations @10 :UInt64;  # and came back before they were with the pager alone
  copies @11 :UInt64;         # that the host made for stores after a fork
}
