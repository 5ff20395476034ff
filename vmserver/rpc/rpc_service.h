// RpcService: the server's side of the RPC socket, with the one thread that runs it ("vm-rpc").
//
// Pagers register there and tools look inside from there (protocol/server.capnp). The VM core talks
// to pagers through pagers() and never meets this thread, except that Transfer::done() and the
// `done` of a device's open are called on it.
//
// A peer that sends rubbish, vanishes in the middle of a call or answers against the rules costs
// itself its connection, and the server a line in its log.
#pragma once

#include <atomic>
#include <cstdint>
#include <future>
#include <memory>
#include <string>
#include <thread>

#include "vmserver/vm/pager.h"
#include "vmserver/vm/report.h"

namespace server {

class Listener;
class PagerHub;

class RpcService {
 public:
  /// `socket_path` is the RPC socket's own path (VM_RPC_SUFFIX included). Throws std::system_error
  /// when there is no descriptor free.
  RpcService(std::string socket_path, vm::Inspector& inspector);
  /// Stops first if that was not done. Every PagedObject has to be destroyed before.
  ~RpcService();

  /// Listens, with mode 0600, and starts the thread, in which all signals are blocked. A socket
  /// that a dead server left is replaced. Throws std::system_error that says what was tried.
  void start();

  /// May be used from any thread, also before start().
  vm::PagerDirectory& pagers();
  /// How many pagers are registered now.
  std::uint64_t registered_pagers() const;

  /// Gives up all objects at their pagers, waits (a second at the most) until the pagers have seen
  /// that, ends the thread and removes the socket. Call it when all address spaces are gone, from
  /// another thread than the service's; a Transfer that is in flight nevertheless ends with
  /// Error::no_device.
  void stop();

 private:
  class Loop;

  void run(std::promise<void>& started);

  std::string socket_path_;
  vm::Inspector& inspector_;
  std::unique_ptr<PagerHub> hub_;
  std::unique_ptr<Listener> listener_;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

}  // namespace server
