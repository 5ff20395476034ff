// What the stub thread does where memory is limited: it takes pages of private memory out of the
// program's address space when the server asks (protocol/trap_frame.h, StubOrder).
//
// UFFDIO_MOVE takes a page away in one step, with every store up to then, and refuses one that I/O
// holds; it works within one address space only, and where memory may be both read and written. What
// may not be written is copied instead, and dropped. The pages go to a place of the shim's own, from
// there into a pipe without being copied, and are dropped.
#pragma once

#include <stdint.h>

namespace shim {

struct Hands {
  int orders = -1;  // a socket
  int pipe = -1;    // its writing end
  char* hold = nullptr;
  int memory = -1;  // /proc/self/mem: reads what the program itself may not
};

/// Makes them, and sends their other ends over the program's socket. Returns 0, or a negative errno;
/// then there are none, and no page of the program leaves.
long make_hands(int socket, int userfaultfd, Hands& hands);
/// Gives back the memory of those of a thread that has ended.
void drop_hold(const Hands& hands);
/// Closes what this table of descriptors has of them.
void close_hands(const Hands& hands);
/// In the thread itself, before it gives anything up.
void open_memory(Hands& hands);
/// Takes one order, if there is one, and answers it. A negative errno when the server is gone or said
/// what no server says.
long take_order(const Hands& hands, int userfaultfd);

/// Around a fork, by whoever forks: meanwhile no order is carried out. What is on its way out at the
/// moment of a fork the child is without, and if its parent is killed just then, for good. Nobody waits
/// for the end of a fork, which may itself wait for pages: orders are answered with nothing.
void hold_orders();
void resume_orders();
/// In the child.
void forget_held_orders();

}  // namespace shim
