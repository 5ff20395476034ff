@0xd4a3c2b9f1086e57;
# What a pager is to the server.
#
# Data never travels in messages. The server passes the memfd that holds an object's pages
# (`Descriptor`), and the pager reads and fills that file. Pages are addressed by index and come in
# clusters: one request is for a run of pages.
#
# Fill a page in one step: programs map the same memfd, and they see a page from the moment it is
# in there. A pager fills whole pages with sendfile/splice, pwrite or fallocate and never stores
# through a mapping of it.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("protocol");

enum Kind {
  anonymous @0;
  file @1;
  device @2;
}

interface Descriptor {}
# Carries one file descriptor (capnp::Capability::Client::getFd()) and has no methods: the right is
# the descriptor.

struct Claim {
  # A file that a device pager offers as a device: recognized by identity, not by path.
  device @0 :UInt64;  # st_dev
  inode @1 :UInt64;   # st_ino
  name @2 :Text;
}

struct Attributes {
  device @0 :UInt64;      # st_dev of the file; 0 for anonymous objects
  inode @1 :UInt64;
  bytes @2 :UInt64;       # size of the content; anonymous: of the object
  rawDevice @3 :UInt64;   # st_rdev of a device
  writable @4 :Bool;
  # Whether the content may be written: through `content`; or, where that only reads, through the
  # file opened anew (/proc/self/fd/N) for as long as there is something to write. The host refuses
  # to execute a file that anybody has open for writing, so the server keeps nothing that may write
  # where the file can be opened like this.
  path @5 :Text;          # for messages only; a pager opens no path on anybody's behalf
  server @6 :Data;        # 16 bytes that no other server has, nor this one when it is started anew
  object @7 :UInt64;      # never given to another object of this server
}

interface Pager {
  open @0 (attributes :Attributes, content :Descriptor, memory :Descriptor)
      -> (status :Status, object :PagedObject, layout :Layout, kept :Bool);
  # Takes charge of one object. `content` is a descriptor of the file that the program mapped (null for
  # anonymous objects), `memory` the memfd for its pages. The object is given up when the server drops the
  # returned capability. `kept`: the pager has what was written to this object of this server, here
  # or at a pager before it that registered as one that keeps; PagedObject.kept says what.

  framebuffer @1 (name :Text) -> (found :Bool, framebuffer :Framebuffer);

  settled @2 () -> ();
  # All objects that there are of this kind have been opened. What is kept of others nobody needs.

  ring @3 (memory :Descriptor, requests :Descriptor, replies :Descriptor) -> ();
  # Offers a way for page-ins that is shorter than a call (page_in_ring.h): `memory` is the file with
  # both lines, the others are the eventfds that are rung for who reads requests and replies. Once
  # it has returned, a page-in may come there or as a call. Whatever else is said of an object comes
  # as a call; one that came to the ring before a call was sent goes before it. A pager need not
  # know this.
}

struct Status {
  # How a request ended. `error` is the host's errno, 0 for success; `what` says what was tried and
  # on what, for the server's log.
  error @0 :Int32;
  what @1 :Text;
}

struct FileStamp {
  modified @0 :Int64;  # st_mtim and st_ctim, in nanoseconds
  changed @1 :Int64;
  bytes @2 :UInt64;    # st_size
}

struct Layout {
  # Where a device's memory is.
  union {
    paged @0 :Void;             # in `memory`, filled by pageIn
    own @1 :Descriptor;         # in this file of the pager's, all of it resident
    host @2 :Void;              # in the host's device: the program maps its own descriptor
  }
  bytes @3 :UInt64;             # size of the device where it differs from `attributes`; else 0
}

interface PagedObject {
  pageIn @0 (firstPage :UInt64, pageCount :UInt64) -> (status :Status);
  # Fills these pages of `memory`, none of which is resident. Past the end of the content they are
  # zero. On an error some may have been filled: the server looks for itself.

  pageOut @1 (firstPage :UInt64, pageCount :UInt64)
      -> (status :Status, before :FileStamp, after :FileStamp);
  # Writes these pages of `memory` to the content, none beyond `bytes`. Done when the content has
  # them, not when they are durable. Where the content is a file: how it was before and after that,
  # so that the server can tell this change from others.

  sync @2 () -> (status :Status);
  # Returns when everything written is durable (fsync).

  resize @3 (bytes :UInt64) -> ();
  # The content has this size from now on.

  grant @4 (content :Descriptor) -> ();
  # The content may be written from now on (Attributes.writable), after the object was opened
  # without that.

  discard @5 (runs :List(PageRun)) -> ();
  # Nobody needs what the pager has of these pages: from now on they are zero, until they are written
  # again.

  kept @6 (firstPage :UInt64) -> (runs :List(PageRun), nextPage :UInt64);
  # Which pages from `firstPage` on the pager has, in order, and from where to ask on; 0 when these
  # are all.

  forget @7 () -> ();
  # Nobody needs what the pager has of this object. A pager that keeps learns by this that the
  # object has ended; when only the capability is dropped, what it has stays.
}

struct PageRun {
  firstPage @0 :UInt64;
  pageCount @1 :UInt64;
}

struct Framebuffer {
  width @0 :UInt32;       # pixels
  height @1 :UInt32;
  stride @2 :UInt32;      # bytes from one row to the next
  memory @3 :Descriptor;  # 32 bits a pixel: blue, green, red, unused
}
