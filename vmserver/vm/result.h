// How fallible functions of the core answer: a value, or an Error.
//
// An Error is one of the host's errno values: errno is libc's, whosever numbers the arguments were in.
#pragma once

#include <cerrno>

#include <boost/outcome/result.hpp>
#include <boost/outcome/try.hpp>
#include <boost/outcome/policy/terminate.hpp>

namespace vm {

enum class Error : int {
  none = 0,
  not_permitted = EPERM,
  io = EIO,
  bad_descriptor = EBADF,
  again = EAGAIN,
  no_memory = ENOMEM,
  access = EACCES,
  fault = EFAULT,
  busy = EBUSY,
  exists = EEXIST,
  overflow = EOVERFLOW,
  no_device = ENODEV,
  invalid = EINVAL,
  not_supported = EOPNOTSUPP,
  no_call = ENOSYS,
};

/// For errnos that come from the host or from a pager.
constexpr Error error_from_errno(int value) { return static_cast<Error>(value); }
constexpr int to_errno(Error error) { return static_cast<int>(error); }

template <class T>
using Result =
    boost::outcome_v2::basic_result<T, Error, boost::outcome_v2::policy::terminate>;

}  // namespace vm
