// Patience: whether a page-in that has to wait for the disk may do that on the event loop.
//
// To have another thread wait takes two wake-ups, which is as long as a fast disk takes; but the event
// loop serves nobody meanwhile. So it waits itself only while there is nobody else: after a wait in
// which others came, or one that was long, the next ones are left to threads, for a while.
#pragma once

#include <chrono>

namespace pager {

class Patience {
 public:
  /// Asked before each page-in that there is nobody beside. Where it says true, waited() is called
  /// when that is over.
  bool may_wait() {
    if (left_out_ == 0) return true;
    --left_out_;
    return false;
  }
  /// `others_came`: whether somebody had to wait for that wait.
  void waited(std::chrono::nanoseconds time, bool others_came) {
    if (time > kLong) {
      left_out_ = kLeftOutAfterLong;
    } else if (others_came) {
      left_out_ = kLeftOutAfterOthers;
    }
  }

 private:
  static constexpr std::chrono::milliseconds kLong{1};
  static constexpr unsigned kLeftOutAfterLong = 256;
  static constexpr unsigned kLeftOutAfterOthers = 32;

  unsigned left_out_ = 0;
};

}  // namespace pager
