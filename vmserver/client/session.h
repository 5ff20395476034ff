// Session: one served program — its socket, its userfaultfd, its address space.
//
// Life of a session:
//   accepted    the program is sent Welcome and answers with Begin; the VmSpace is made
//   forked      instead of that: made from a fork event of its parent, served from then on; it gets
//               a socket when the child's shim speaks up (Adopt)
//   closed      the program ended, executed something else, or sent what no shim sends
//
// Threads: everything about the socket and the calls happens on the server's call thread; answers
// that come from elsewhere (a pager) are posted there. Faults are handled on one of the fault
// threads. The VmSpace has its own lock.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include "hal/linux/uffd_pmap.h"
#include "protocol/trap_frame.h"
#include "vmserver/client/frame_socket.h"
#include "vmserver/client/note_reader.h"
#include "vmserver/client/plan_encoder.h"
#include "vmserver/client/stub_channel.h"
#include "vmserver/vm/call.h"
#include "vmserver/vm/vm_space.h"

namespace server {

class ProgramServer;

class Session : public std::enable_shared_from_this<Session> {
 public:
  /// For an accepted connection; owns `socket`.
  Session(ProgramServer& server, std::uint64_t id, int socket);
  /// For a forked child.
  Session(ProgramServer& server, std::uint64_t id, const Session& parent);
  ~Session();

  /// Greets an accepted program and waits for what it sends.
  void start();

  std::uint64_t id() const { return id_; }
  std::int32_t pid() const { return pid_; }
  bool has_socket() const { return socket_.is_open(); }
  vm::VmSpace* space() { return serving_ ? space_.get() : nullptr; }
  void report(vm::SpaceReport& report);
  /// What the program has noted goes into its map. Any thread.
  void catch_up();

  /// Ends the session; what the program had is freed. `why` is for the log. Call thread.
  void close(const std::string& why);
  /// Tells the program that the server ends; the session closes when the program has gone.
  void dismiss();
  /// Whether the address space still exists at the host. Any thread.
  bool alive();

 private:
  class ActiveCall;
  friend class ActiveCall;
  friend class ProgramServer;

  // How it begins (session_beginning.cc).

  void begin(const ReceivedFrame& frame);
  /// Ends a session whose beginning failed: what `pmap` is of may have ended.
  void cannot_begin(hal::Pmap& pmap, const std::string& why);
  void adopt(ReceivedFrame& frame);
  /// A forked child has spoken up, or a program that lost its socket: it has this one from here on.
  void adopted(int socket, const std::vector<hal::SharedDescriptor>& passed,
               std::uint64_t proc_files);
  /// How to look at the program's address space: by the files it passed, or opened here.
  struct ProcFiles {
    hal::SharedDescriptor maps;
    hal::SharedDescriptor pagemap;
  };
  ProcFiles proc_files(std::span<const hal::SharedDescriptor> passed, std::uint64_t which) const;
  void on_fork(int userfaultfd);
  /// Sends a new program its ring of notes; what has none is sent that. False when it does not take it.
  bool offer_notes(std::uint32_t flags);
  static void make_secret(std::array<std::uint64_t, 2>& secret);
  bool write_nameplate();
  void read_peer();
  void watch_process();
  void name_process();

  // What it does from then on (session.cc).

  void wait_for_frame();
  void on_frame(ReceivedFrame& frame);
  void on_request(ReceivedFrame& frame);
  void on_continue();
  void on_stub(const ReceivedFrame& frame);
  void reject(const std::string& why);
  void serve_faults();
  void wait_for_fault();
  void on_fault(const hal::UffdPmap::Fault& fault);

  bool send_reply(const protocol::TrapRequest& to, std::uint32_t flags, std::int32_t error,
                  std::uint64_t value, const HostOpBatch* batch,
                  const std::vector<std::uint8_t>& data, int descriptor = -1);

  ProgramServer& server_;
  const std::uint64_t id_;
  boost::asio::io_context& faults_;  // the fault thread that serves this session

  // Call thread.
  boost::asio::posix::stream_descriptor socket_;
  boost::asio::posix::stream_descriptor process_;  // pidfd
  alignas(8) std::array<std::byte, 512> buffer_{};
  protocol::TrapRequest request_{};
  std::shared_ptr<ActiveCall> call_;  // under way
  std::optional<protocol::TrapRequest> last_;  // ended; the plan of its answer may still fail
  vm::Answer last_answer_;
  /// Sockets that the program itself has closed, but that its stub thread still watches.
  std::vector<hal::SharedDescriptor> retired_;
  std::shared_ptr<StubChannel> stub_;  // where memory is limited
  bool closed_ = false;
  bool dismissed_ = false;
  bool unheard_ = false;  // a child whose parent may have told of calls after the fork

  // Set while only one thread knows the session, or by adoption; read anywhere.
  std::atomic<std::int32_t> pid_{0};
  std::int32_t parent_pid_ = 0;
  std::atomic<std::uint32_t> user_id_{0};
  std::atomic<bool> serving_{false};
  std::atomic<std::uint64_t> hold_{0};  // of the program's stub, its address; see StubHello
  std::unique_ptr<NoteReader> own_notes_;  // call thread
  std::atomic<NoteReader*> notes_{nullptr};  // these, once they are there
  hal::UffdPmap* pmap_ = nullptr;  // the space's
  std::shared_ptr<vm::VmSpace> space_;
  std::array<std::uint64_t, 2> secret_{};  // immutable

  // Fault thread.
  boost::asio::posix::stream_descriptor userfaultfd_;
};

}  // namespace server
