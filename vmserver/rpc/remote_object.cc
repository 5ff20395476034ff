#include "vmserver/rpc/remote_object.h"

#include <kj/debug.h>

#include <exception>
#include <utility>

#include "hal/linux/memfd_backing.h"
#include "protocol/descriptor.h"
#include "vmserver/rpc/peer_log.h"

namespace server {

using hal::PageRange;
using vm::Error;
using vm::Transfer;

/// What ends when a pager goes. Its tasks end with it, so it is never destroyed from one of them:
/// the hub detaches objects from tasks of its own.
struct RemoteObject::Attachment {
  Attachment(kj::Own<RegisteredPager> pager, kj::TaskSet::ErrorHandler& errors)
      : pager(kj::mv(pager)), tasks(errors) {}

  kj::Own<RegisteredPager> pager;
  protocol::PagedObject::Client remote = nullptr;
  bool open_answered = false;
  /// The object was opened at a pager before, and what this one keeps of it is not known yet: Jobs
  /// wait.
  bool taking_over = false;
  PageSet kept;  ///< what the pager said so far
  Error open_error = Error::none;
  /// What the pager was told of the object and has not answered: page-ins must not overtake it.
  unsigned told = 0;
  kj::ForkedPromise<void> opened = nullptr;  ///< never fails
  kj::TaskSet tasks;
};

namespace {

/// Behind every page that there can be.
constexpr std::uint64_t kLastPage = std::uint64_t{1} << (62 - hal::kPageShift);

// Whether nothing of `run` is missing from these parts of it.
bool is_whole(const std::vector<PageRange>& parts, PageRange run) {
  return parts.size() == 1 && parts.front() == run;
}

hal::FileStamp stamp_of(protocol::FileStamp::Reader stamp) {
  return {stamp.getModified(), stamp.getChanged(), stamp.getBytes()};
}

}  // namespace

Error error_of(protocol::Status::Reader status) {
  constexpr int kLargestErrno = 4095;
  const int error = status.getError();
  if (error == 0) return Error::none;
  return error > 0 && error <= kLargestErrno ? vm::error_from_errno(error) : Error::io;
}

RemoteObject::RemoteObject(Description description, RemoteObjectOwner& owner)
    : description_(std::move(description)), owner_(owner) {}

RemoteObject::~RemoteObject() = default;

bool RemoteObject::served_by(const RegisteredPager& pager) const {
  return attachment_ && attachment_->pager.get() == &pager;
}

// ---- the open ----

void RemoteObject::attach(kj::Own<RegisteredPager> pager) {
  kj::TaskSet::ErrorHandler& errors = *this;
  attachment_ = std::make_unique<Attachment>(kj::mv(pager), errors);
  if (!attachment_->pager->keeps) {
    lose(held_.all());
  } else {
    attachment_->taking_over = attached_before_ && kind() == vm::PagerKind::anonymous;
  }
  attached_before_ = true;
  attachment_->opened = kj::evalNow([this] { return send_open(); })
                            .catch_([this](kj::Exception&& exception) -> kj::Promise<void> {
                              if (exception.getType() == kj::Exception::Type::DISCONNECTED) {
                                pager_failed(exception.getDescription().cStr());
                                return kj::NEVER_DONE;
                              }
                              // What it answers to is the wrong pages, or zeroes.
                              if (attachment_->taking_over) {
                                pager_failed(exception.getDescription().cStr());
                                return kj::NEVER_DONE;
                              }
                              owner_.complain(attachment_->pager->title() + ": open failed: " +
                                              printable(exception.getDescription().cStr()));
                              open_ended(Error::io, {});
                              return kj::READY_NOW;
                            })
                            .fork();
  attachment_->tasks.add(attachment_->opened.addBranch());
  for (auto job = jobs_.begin(); job != jobs_.end();) start(job++);
}

kj::Promise<void> RemoteObject::send_open() {
  const hal::FileAttributes& file = description_.attributes;
  auto request = attachment_->pager->client.openRequest();
  auto attributes = request.initAttributes();
  attributes.setDevice(file.device);
  attributes.setInode(file.inode);
  attributes.setBytes(description_.bytes);
  attributes.setRawDevice(file.raw_device);
  attributes.setWritable(file.writable);
  attributes.setPath(file.path.c_str());
  attributes.setServer(kj::arrayPtr(description_.server.data(), description_.server.size()));
  attributes.setObject(description_.number);
  if (description_.content)
    request.setContent(protocol::offer_descriptor(description_.content));
  if (description_.backing && description_.backing->descriptor() >= 0) {
    const hal::SharedDescriptor memory = description_.backing->reopen(true);
    request.setMemory(protocol::offer_descriptor(memory));
  }
  auto promise = request.send();
  attachment_->remote = promise.getObject();
  return promise.then([this](capnp::Response<protocol::Pager::OpenResults>&& response) {
    return open_answered(kj::mv(response));
  });
}

kj::Promise<void> RemoteObject::open_answered(
    capnp::Response<protocol::Pager::OpenResults>&& response) {
  const std::string title = attachment_->pager->title();
  const auto status = response.getStatus();
  if (const Error error = error_of(status); error != Error::none) {
    owner_.complain(title + ": " + printable(status.getWhat().cStr()));
    open_ended(error, {});
    return kj::READY_NOW;
  }
  if (!response.hasObject()) {
    owner_.complain(title + ": opened " + description_.attributes.path + " without an object");
    open_ended(Error::no_device, {});
    return kj::READY_NOW;
  }
  if (kind() == vm::PagerKind::device && opening()) {
    auto layout = layout_answered(response.getLayout());
    return layout.attach(kj::mv(response));
  }
  if (!response.getLayout().isPaged()) {
    owner_.complain(title + ": memory of its own for an object that has pages already");
    open_ended(Error::no_device, {});
  } else if (attachment_->taking_over) {
    return take_over(response.getKept());
  } else {
    open_ended(Error::none, {});
  }
  return kj::READY_NOW;
}

kj::Promise<void> RemoteObject::take_over(bool kept) {
  if (kept) return ask_kept(0);
  kept_answered();
  return kj::READY_NOW;
}

kj::Promise<void> RemoteObject::ask_kept(std::uint64_t first_page) {
  auto request = attachment_->remote.keptRequest();
  request.setFirstPage(first_page);
  return request.send().then(
      [this, first_page](
          capnp::Response<protocol::PagedObject::KeptResults>&& response) -> kj::Promise<void> {
        std::uint64_t end = first_page;
        for (const auto run : response.getRuns()) {
          const PageRange pages(hal::PageIndex(run.getFirstPage()), run.getPageCount());
          KJ_REQUIRE(run.getPageCount() <= kLastPage && run.getFirstPage() <= kLastPage &&
                         run.getFirstPage() >= end,
                     "kept: pages that cannot be");
          attachment_->kept.add(pages);
          end = pages.end().value();
        }
        const std::uint64_t next = response.getNextPage();
        if (next == 0) {
          kept_answered();
          return kj::READY_NOW;
        }
        KJ_REQUIRE(next >= end && next > first_page, "kept: answers that never end");
        return ask_kept(next);
      });
}

/// Both sides have the same from here on.
void RemoteObject::kept_answered() {
  constexpr std::size_t kRunsOfMessage = 4096;
  std::vector<PageRange> missing;
  for (const PageRange held : held_.all())
    for (const PageRange gap : attachment_->kept.outside(held)) missing.push_back(gap);
  lose(missing);
  Command::Discard stale;
  const auto discard = [&] {
    if (!stale.pages.empty()) carry_out(stale);
    stale.pages.clear();
  };
  for (const PageRange kept : attachment_->kept.all()) {
    for (const PageRange unheld : held_.outside(kept)) {
      stale.pages.push_back(unheld);
      if (stale.pages.size() == kRunsOfMessage) discard();
    }
  }
  discard();
  attachment_->kept.clear();
  open_ended(Error::none, {});
}

void RemoteObject::begin_jobs() {
  if (!std::exchange(attachment_->taking_over, false)) return;
  for (auto job = jobs_.begin(); job != jobs_.end();) start(job++);
}

kj::Promise<void> RemoteObject::layout_answered(protocol::Layout::Reader layout) {
  constexpr std::uint64_t kLargestDevice = std::uint64_t{1} << 62;
  const std::uint64_t bytes = layout.getBytes();
  if (bytes > kLargestDevice) {
    owner_.complain(attachment_->pager->title() + ": a device of " + std::to_string(bytes) +
                    " bytes");
    open_ended(Error::no_device, {});
    return kj::READY_NOW;
  }
  switch (layout.which()) {
    case protocol::Layout::PAGED: {
      vm::OpenedObject opened;
      opened.bytes = bytes;
      open_ended(Error::none, std::move(opened));
      return kj::READY_NOW;
    }
    case protocol::Layout::HOST: {
      vm::OpenedObject opened;
      opened.bytes = bytes;
      opened.host_memory = true;
      open_ended(Error::none, std::move(opened));
      return kj::READY_NOW;
    }
    case protocol::Layout::OWN:
      return protocol::take_descriptor(layout.getOwn()).then([this, bytes](kj::AutoCloseFd fd) {
        vm::OpenedObject opened;
        opened.bytes = bytes;
        try {
          hal::SharedDescriptor file(fd.get());
          fd.release();
          auto memory = std::make_shared<hal::MemfdBacking>(file);
          const PageRange all(hal::PageIndex(0), memory->pages());
          if (all.empty() || bytes > all.bytes() || !memory->next_absent(all).empty())
            throw std::runtime_error("it is empty, too small or not all resident");
          opened.own_memory = std::move(memory);
        } catch (const std::exception& error) {
          owner_.complain(attachment_->pager->title() + ": memory for " +
                          description_.attributes.path +
                          " cannot be used: " + printable(error.what()));
          open_ended(Error::no_device, {});
          return;
        }
        open_ended(Error::none, std::move(opened));
      });
  }
  owner_.complain(attachment_->pager->title() + ": a layout that this server does not know");
  open_ended(Error::no_device, {});
  return kj::READY_NOW;
}

void RemoteObject::open_ended(Error error, vm::OpenedObject&& opened) {
  attachment_->open_answered = true;
  attachment_->open_error = error;
  begin_jobs();
  if (!opening()) return use_ring();
  if (error != Error::none) {
    owner_.device_opened(*this, error);
    return;
  }
  own_memory_ = opened.own_memory != nullptr || opened.host_memory;
  if (own_memory_) description_.backing.reset();
  if (opened.bytes != 0) description_.bytes = opened.bytes;
  owner_.device_opened(*this, std::move(opened));
  use_ring();
}

void RemoteObject::use_ring() {
  if (!attachment_ || !attachment_->open_answered || attachment_->open_error != Error::none ||
      attachment_->told != 0 || own_memory_ || !lost_.empty() || !attachment_->pager->replies)
    return;
  owner_.allow_ring(*this, *attachment_->pager->ring, description_.number);
}

void RemoteObject::call_instead(Transfer& transfer) {
  jobs_.push_back({.transfer = &transfer, .repeated = true});
  start(std::prev(jobs_.end()));
}

void RemoteObject::detach() {
  std::vector<Transfer*> in_ring;
  if (attachment_->pager->ring) in_ring = owner_.forbid_ring(*this, *attachment_->pager->ring);
  attachment_.reset();
  for (Job& job : jobs_) {
    job.repeated = job.repeated || job.outstanding > 0;
    job.outstanding = 0;
    job.error = Error::none;
  }
  for (Transfer* transfer : in_ring) jobs_.push_back({.transfer = transfer, .repeated = true});
}

void RemoteObject::pager_died() {
  const bool keeps = attachment_->pager->keeps;
  detach();
  if (!keeps) lose(held_.all());
}

void RemoteObject::lose(const std::vector<PageRange>& pages) {
  if (pages.empty()) return;
  std::uint64_t count = 0;
  // Resident ones too: should they be dropped as clean later on, they are lost then. A page-out to
  // the next pager takes them off the list.
  for (const PageRange gone : pages) {
    count += gone.count();
    lost_.add(gone);
    held_.remove(gone);
  }
  owner_.complain("pager-anon: it held " + std::to_string(count) +
                  " pages of one object; those that are not resident are lost");
  // Where only some are gone it shows as their page-ins fail.
  if (held_.empty() && tell_lost_) tell_lost_();
  // Whoever waits for one of them does not wait for the next pager.
  for (auto job = jobs_.begin(); job != jobs_.end();) {
    const auto next = std::next(job);
    if (job->transfer->kind == Transfer::Kind::page_in) {
      if (!is_whole(lost_.outside(job->transfer->pages), job->transfer->pages)) {
        job->error = Error::io;
        finish(job);
      }
    }
    job = next;
  }
}

template <class Request>
void RemoteObject::tell(Request&& request) {
  ++attachment_->told;
  attachment_->tasks.add(request.send().ignoreResult().then([this] {
    --attachment_->told;
    use_ring();
  }));
}

// ---- what comes from the core ----

void RemoteObject::accept(ObjectQueue::Delivery& delivery) {
  // An open that failed (no descriptor free, for example) may succeed the next time.
  if (jobs_.empty() && attachment_ && attachment_->open_error != Error::none && !opening() &&
      !delivery.transfers.empty()) {
    auto pager = kj::addRef(*attachment_->pager);
    if (!pager->gone) attach(kj::mv(pager));
  }
  while (!delivery.unfilled.empty()) {
    Transfer& transfer = delivery.unfilled.front();
    delivery.unfilled.pop_front();
    call_instead(transfer);
  }
  auto command = delivery.commands.begin();
  for (std::size_t position = 0;; ++position) {
    while (command != delivery.commands.end() && command->after <= position) apply(*command++);
    if (delivery.transfers.empty()) break;
    Transfer& transfer = delivery.transfers.front();
    delivery.transfers.pop_front();
    jobs_.push_back({.transfer = &transfer});
    start(std::prev(jobs_.end()));
  }
  if (!delivery.commands.empty()) use_ring();
}

void RemoteObject::apply(const Command& command) {
  std::visit([this](const auto& what) { carry_out(what); }, command.what);
}

void RemoteObject::carry_out(const Command::Resize& resize) {
  description_.bytes = resize.bytes;
  const PageRange behind = PageRange::between(hal::PageIndex(hal::pages_for_bytes(resize.bytes)),
                                              hal::PageIndex(kLastPage));
  held_.remove(behind);
  lost_.remove(behind);
  if (!attachment_) return;
  auto request = attachment_->remote.resizeRequest();
  request.setBytes(resize.bytes);
  tell(kj::mv(request));
}

void RemoteObject::carry_out(const Command::Grant& grant) {
  const hal::SharedDescriptor& content = grant.content;
  if (!content) return;
  description_.content = content;
  description_.attributes.writable = true;
  if (!attachment_) return;
  auto request = attachment_->remote.grantRequest();
  request.setContent(protocol::offer_descriptor(content));
  tell(kj::mv(request));
}

void RemoteObject::carry_out(const Command::Discard& discard) {
  for (const PageRange pages : discard.pages) {
    held_.remove(pages);
    lost_.remove(pages);
  }
  if (!attachment_) return;
  auto request = attachment_->remote.discardRequest();
  auto runs = request.initRuns(static_cast<unsigned>(discard.pages.size()));
  for (unsigned i = 0; i < runs.size(); ++i) {
    runs[i].setFirstPage(discard.pages[i].first().value());
    runs[i].setPageCount(discard.pages[i].count());
  }
  tell(kj::mv(request));
}

void RemoteObject::carry_out(const Command::OnLost& on_lost) { tell_lost_ = on_lost.lost; }

void RemoteObject::forget() {
  if (!attachment_ || !attachment_->pager->keeps) return;
  attachment_->remote.forgetRequest().send().ignoreResult().detach(
      [](kj::Exception&&) { /* the next pager is not told of the object */ });
}

void RemoteObject::fail_all(Error error) {
  if (attachment_) detach();
  while (!jobs_.empty()) {
    jobs_.front().error = error;
    finish(jobs_.begin());
  }
}

// ---- jobs ----

void RemoteObject::start(Jobs::iterator job) {
  if (!attachment_) {
    if (!own_memory_) return;  // waits for the next pager
    // The memory is the content: there is nothing to write back, and nobody to ask for more.
    if (job->transfer->kind == Transfer::Kind::page_in) job->error = Error::io;
    finish(job);
    return;
  }
  if (attachment_->taking_over) return;
  job->outstanding = 1;
  switch (job->transfer->kind) {
    case Transfer::Kind::page_in:
      start_page_in(job);
      break;
    case Transfer::Kind::page_out:
      call_page_out(job);
      break;
    case Transfer::Kind::sync:
      call_sync(job);
      break;
  }
  one_less(job);
}

void RemoteObject::start_page_in(Jobs::iterator job) {
  try {
    for (const PageRange run : runs_to_fill(*job)) call_page_in(job, run);
  } catch (const std::exception& error) {
    owner_.complain(text(*job) + ": " + error.what());
    job->error = Error::io;
  }
}

std::vector<PageRange> RemoteObject::runs_to_fill(Job& job) {
  const PageRange asked = job.transfer->pages;
  std::vector<PageRange> absent;
  if (!job.repeated && lost_.empty()) {
    absent.push_back(asked);
    return absent;
  }
  for (PageRange rest = asked; !rest.empty();) {
    const PageRange run = description_.backing->next_absent(rest);
    if (run.empty()) break;
    absent.push_back(run);
    rest = PageRange::between(run.end(), rest.end());
  }
  std::vector<PageRange> runs;
  for (const PageRange run : absent) {
    const std::vector<PageRange> kept = lost_.outside(run);
    if (!is_whole(kept, run)) {
      owner_.complain(text(job) + ": was lost with a pager that died");
      job.error = Error::io;
    }
    runs.insert(runs.end(), kept.begin(), kept.end());
  }
  return runs;
}

void RemoteObject::call_page_in(Jobs::iterator job, PageRange run) {
  auto request = attachment_->remote.pageInRequest();
  request.setFirstPage(run.first().value());
  request.setPageCount(run.count());
  call(job, kj::mv(request));
}

void RemoteObject::call_page_out(Jobs::iterator job) {
  auto request = attachment_->remote.pageOutRequest();
  request.setFirstPage(job->transfer->pages.first().value());
  request.setPageCount(job->transfer->pages.count());
  call(job, kj::mv(request));
}

void RemoteObject::call_sync(Jobs::iterator job) { call(job, attachment_->remote.syncRequest()); }

template <class Request>
void RemoteObject::call(Jobs::iterator job, Request&& request) {
  ++job->outstanding;
  attachment_->tasks.add(request.send().then(
      [this, job](auto&& response) -> kj::Promise<void> {
        if constexpr (requires { response.getBefore(); }) {
          if (response.hasBefore() && response.hasAfter())
            job->transfer->stamps = {stamp_of(response.getBefore()), stamp_of(response.getAfter())};
        }
        answered(job, response.getStatus());
        return kj::READY_NOW;
      },
      [this, job](kj::Exception&& exception) { return call_failed(job, kj::mv(exception)); }));
}

void RemoteObject::answered(Jobs::iterator job, protocol::Status::Reader status) {
  Error error = error_of(status);
  if (error != Error::none)
    owner_.complain(attachment_->pager->title() + ": " + printable(status.getWhat().cStr()));
  if (attachment_->open_error != Error::none) error = attachment_->open_error;
  if (job->error == Error::none) job->error = error;
  one_less(job);
}

kj::Promise<void> RemoteObject::call_failed(Jobs::iterator job, kj::Exception&& exception) {
  if (exception.getType() == kj::Exception::Type::DISCONNECTED) {
    pager_failed(exception.getDescription().cStr());
    return kj::READY_NOW;  // the job stays for the next pager
  }
  // The calls behind an open that fails fail with it; what the open says counts.
  return attachment_->opened.addBranch().then(
      [this, job, what = std::string(exception.getDescription().cStr())] {
        Error error = attachment_->open_error;
        if (error == Error::none) {
          owner_.complain(attachment_->pager->title() + ": " + text(*job) + ": " + printable(what));
          error = Error::io;
        }
        if (job->error == Error::none) job->error = error;
        one_less(job);
      });
}

void RemoteObject::one_less(Jobs::iterator job) {
  if (--job->outstanding == 0) finish(job);
}

void RemoteObject::finish(Jobs::iterator job) {
  Transfer& transfer = *job->transfer;
  const Error error = job->error;
  if (kind() == vm::PagerKind::anonymous && transfer.kind == Transfer::Kind::page_out &&
      error == Error::none) {
    const PageRange inside(hal::PageIndex(0), hal::pages_for_bytes(description_.bytes));
    held_.add(transfer.pages.intersect(inside));
    lost_.remove(transfer.pages);
  }
  jobs_.erase(job);
  if (transfer.kind == Transfer::Kind::page_out) owner_.written(*this, transfer.pages);
  transfer.done(error);
}

std::string RemoteObject::text(const Job& job) const {
  std::string what;
  switch (job.transfer->kind) {
    case Transfer::Kind::page_in:
      what = "page-in";
      break;
    case Transfer::Kind::page_out:
      what = "page-out";
      break;
    case Transfer::Kind::sync:
      what = "sync";
      break;
  }
  if (job.transfer->kind != Transfer::Kind::sync)
    what += " of " + std::to_string(job.transfer->pages.count()) + " pages at page " +
            std::to_string(job.transfer->pages.first().value());
  const hal::FileAttributes& file = description_.attributes;
  if (kind() == vm::PagerKind::anonymous) return what + " of anonymous memory";
  return what + " of inode " + std::to_string(file.inode) + " (" + file.path + ")";
}

void RemoteObject::pager_failed(const std::string& why) {
  owner_.pager_failed(*attachment_->pager, why);
}

void RemoteObject::taskFailed(kj::Exception&& exception) {
  if (exception.getType() == kj::Exception::Type::DISCONNECTED) {
    pager_failed(exception.getDescription().cStr());
  } else if (attachment_->open_error == Error::none) {
    owner_.complain(attachment_->pager->title() + ": " +
                    printable(exception.getDescription().cStr()));
  }
}

}  // namespace server
