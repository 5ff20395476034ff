// RequestOrder: which requests for one object may be under way together.
//
// A program sits in a fault while a page comes in, so a page-in must not wait for what has nothing
// to do with it: a page-out of 1 MiB of other pages, or an fsync. What does wait, for everything
// asked before it, is
//   - a request for some of the same pages;
//   - a sync for page-outs and syncs, and they for it;
//   - a page-out for page-outs, unless the store says that it takes them together;
//   - what concerns the object as a whole for everything, and everything for it.
#pragma once

#include <algorithm>
#include <list>
#include <utility>
#include <vector>

#include <kj/async.h>
#include <kj/vector.h>

#include "hal/address.h"

namespace pager {

class RequestOrder {
 public:
  enum class Kind { page_in, page_out, discard, sync, whole };

  /// `page_outs_together`: whether those of different pages may be.
  explicit RequestOrder(bool page_outs_together) : page_outs_together_(page_outs_together) {}

  /// Whether run() would run it at once.
  bool is_free(Kind kind, const std::vector<hal::PageRange>& pages) {
    bool free = true;
    for_each_before(kind, pages, [&](Request&) { free = false; });
    return free;
  }

  /// Runs `work`, which gives a promise, at once or when those have ended that it has to wait for.
  /// `pages` are those of a page-in, a page-out or a discard.
  template <class Work>
  kj::Promise<void> run(Kind kind, std::vector<hal::PageRange> pages, Work&& work) {
    kj::Vector<kj::Promise<void>> before;
    for_each_before(kind, pages, [&](Request& other) { before.add(other.over.addBranch()); });
    auto work_done = before.empty()
                         ? kj::evalNow(kj::fwd<Work>(work))
                         : kj::joinPromises(before.releaseAsArray()).then(kj::fwd<Work>(work));
    auto done = work_done.fork();
    const auto request = requests_.emplace(requests_.end(), kind, std::move(pages));
    request->over = done.addBranch()
                        .then([request] { request->ended = true; },
                              [request](kj::Exception&&) {
                                request->ended = true; /* its caller is told */
                              })
                        .fork();
    return done.addBranch();
  }

 private:
  struct Request {
    Request(Kind kind, std::vector<hal::PageRange> pages) : kind(kind), pages(std::move(pages)) {}

    Kind kind;
    std::vector<hal::PageRange> pages;
    bool ended = false;
    kj::ForkedPromise<void> over = nullptr;  ///< never fails
  };

  /// Those that such a request has to wait for.
  template <class Visit>
  void for_each_before(Kind kind, const std::vector<hal::PageRange>& pages, Visit&& visit) {
    // Not from their own ends: those run inside what would be destroyed.
    requests_.remove_if([](const Request& request) { return request.ended; });
    // The newest first: what one that counts has itself waited for need not be waited for again,
    // and thousands of page-outs may be in line.
    bool writing_waited_for = false;
    for (auto other = requests_.rbegin(); other != requests_.rend(); ++other) {
      const bool follows = follows_writing(kind, *other);
      if ((!follows || writing_waited_for) && kind != Kind::whole && other->kind != Kind::whole &&
          !overlap(pages, other->pages))
        continue;
      visit(*other);
      if (other->kind == Kind::whole) break;
      writing_waited_for |= follows && follows_writing(other->kind, *other);
    }
  }

  /// Whether a request of this kind waits for the other's being a page-out or a sync.
  bool follows_writing(Kind kind, const Request& other) const {
    if (kind == Kind::sync) return other.kind == Kind::sync || other.kind == Kind::page_out;
    if (kind != Kind::page_out) return false;
    return other.kind == Kind::sync || (other.kind == Kind::page_out && !page_outs_together_);
  }

  static bool overlap(const std::vector<hal::PageRange>& some,
                      const std::vector<hal::PageRange>& others) {
    return std::any_of(some.begin(), some.end(), [&](hal::PageRange one) {
      return std::any_of(others.begin(), others.end(),
                         [&](hal::PageRange other) { return one.overlaps(other); });
    });
  }

  const bool page_outs_together_;
  std::list<Request> requests_;  ///< in the order in which they came; some have ended
};

}  // namespace pager
