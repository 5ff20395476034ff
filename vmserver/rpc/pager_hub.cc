#include "vmserver/rpc/pager_hub.h"

#include <spdlog/spdlog.h>
#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "protocol/descriptor.h"

namespace server {

using vm::Error;
using vm::PagerKind;

const char* program_of(PagerKind kind) {
  switch (kind) {
    case PagerKind::anonymous:
      return "pager-anon";
    case PagerKind::file:
      return "pager-file";
    case PagerKind::device:
      return "pager-device";
  }
  return "pager";
}

/// What the core holds of an object. The RemoteObject is the RPC thread's and outlives it.
class PagerHub::Handle final : public vm::PagedObject {
 public:
  Handle(ObjectQueue& queue, RemoteObject& object) : queue_(queue), object_(object) {}
  ~Handle() override { queue_.close(object_); }
  void submit(vm::Transfer& transfer) override { queue_.submit(object_, transfer); }
  void resize(std::uint64_t bytes) override {
    queue_.command(object_, Command::Resize{bytes});
  }
  void grant(const hal::SharedDescriptor& content) override {
    queue_.command(object_, Command::Grant{content});
  }
  void discard(std::vector<hal::PageRange> pages) override {
    queue_.command(object_, Command::Discard{std::move(pages)});
  }
  void on_lost(std::function<void()> lost) override {
    queue_.command(object_, Command::OnLost{std::move(lost)});
  }

 private:
  ObjectQueue& queue_;
  RemoteObject& object_;
};

namespace {

ServerId random_id() {
  ServerId id{};
  if (::getrandom(id.data(), id.size(), 0) != static_cast<ssize_t>(id.size()))
    throw std::system_error(errno, std::generic_category(), "getrandom for the server's identity");
  return id;
}

}  // namespace

class PagerHub::Tasks final : private kj::TaskSet::ErrorHandler {
 public:
  Tasks() : set(*this) {}

 private:
  void taskFailed(kj::Exception&& exception) override {
    spdlog::error("rpc: {}", printable(exception.getDescription().cStr()));
  }

 public:
  kj::TaskSet set;
};

PagerHub::PagerHub() : id_(random_id()) {}

PagerHub::~PagerHub() {
  queue_.begin();
  for (ObjectQueue::Delivery delivery; queue_.take(delivery);) {
  }
}

// ---- any thread ----

void PagerHub::open(PagerKind kind, const hal::HostFile& file, std::uint64_t bytes,
                    std::shared_ptr<hal::Backing> backing, vm::OpenDone done) {
  const bool device = kind == PagerKind::device;
  const bool served =
      device ? devices_registered_.load() > 0 : ever_registered_[index(kind)].load();
  const std::string subject =
      file.attributes.path.empty() ? std::string("anonymous memory") : file.attributes.path;
  if (!served) {
    spdlog::error("no {} is registered: cannot open {}", program_of(kind), subject);
    done(Error::no_device);
    return;
  }
  RemoteObject::Description description{.kind = kind,
                                        .attributes = file.attributes,
                                        .content = file.descriptor,
                                        .bytes = bytes,
                                        .server = id_,
                                        .number = ++last_object_,
                                        .backing = std::move(backing),
                                        .device_done = {}};
  if (device) description.device_done = done;
  RemoteObjectOwner& owner = *this;
  auto object = std::make_unique<RemoteObject>(std::move(description), owner);
  RemoteObject& opened = *object;
  if (!queue_.announce(opened)) {
    spdlog::error("the server is ending: cannot open {}", subject);
    done(Error::no_device);
    return;
  }
  object.release();  // the RPC thread's from here on
  if (device) return;
  vm::OpenedObject answer;
  answer.object = std::make_unique<Handle>(queue_, opened);
  done(std::move(answer));
}

bool PagerHub::claims(const hal::FileAttributes& file) const {
  const std::lock_guard lock(claims_mutex_);
  return claims_.contains({file.device, file.inode});
}

// ---- the RPC thread ----

void PagerHub::begin(kj::UnixEventPort& port) {
  port_ = &port;
  tasks_ = std::make_unique<Tasks>();
}

void PagerHub::end() {
  for (auto& [address, object] : objects_)
    if (object->attached()) object->detach();
  for (auto& line : lines_) {
    for (auto& pager : line)
      if (pager->ring) queue_.remove_ring(*pager->ring);
    line.clear();
  }
  tasks_.reset();
}

void PagerHub::take_queued() {
  queue_.begin();
  ObjectQueue::Delivery delivery;
  while (queue_.take(delivery)) {
    auto& object = static_cast<RemoteObject&>(*delivery.inbox);
    if (delivery.fresh) {
      objects_.emplace(&object, &object);
      if (RegisteredPager* pager = pager_for(object)) {
        object.attach(kj::addRef(*pager));
      } else if (object.opening()) {
        device_opened(object, Error::no_device);
      }
    }
    object.accept(delivery);
    if (delivery.closed) {
      object.forget();
      object.fail_all(Error::no_device);
      objects_.erase(&object);
    }
  }
}

RegisteredPager* PagerHub::pager_for(const RemoteObject& object) {
  auto& line = lines_[index(object.kind())];
  const hal::FileAttributes& file = object.attributes();
  for (auto& pager : line)
    if (!pager->gone && pager->claims_file(file.device, file.inode)) return pager.get();
  for (auto& pager : line)
    if (!pager->gone) return pager.get();
  return nullptr;
}

void PagerHub::attach_waiting(PagerKind kind) {
  for (auto& [address, object] : objects_) {
    if (object->kind() != kind || object->attached() || object->has_own_memory()) continue;
    if (RegisteredPager* pager = pager_for(*object)) object->attach(kj::addRef(*pager));
  }
  for (auto& pager : lines_[index(kind)]) {
    if (pager->gone) continue;
    if (pager->keeps && !pager->settled && serves_all(*pager)) settle(*pager);
    break;  // the others wait
  }
}

// False as long as the one before it is gone, but has not been dropped: its objects are still with it.
bool PagerHub::serves_all(const RegisteredPager& pager) const {
  return std::all_of(objects_.begin(), objects_.end(), [&](const auto& entry) {
    const RemoteObject& object = *entry.second;
    return object.kind() != pager.kind || object.served_by(pager);
  });
}

/// All objects that there are go to this pager and have been opened there. What it keeps of others
/// is of objects that ended while there was no pager.
void PagerHub::settle(RegisteredPager& pager) {
  pager.settled = true;
  tasks_->set.add(pager.client.settledRequest().send().ignoreResult().catch_(
      [this, pager = kj::addRef(pager)](kj::Exception&& exception) {
        if (exception.getType() != kj::Exception::Type::DISCONNECTED)
          log_.error(pager->title() + ": " + printable(exception.getDescription().cStr()));
      }));
}

void PagerHub::add(kj::Own<RegisteredPager> pager) {
  const PagerKind kind = pager->kind;
  auto& line = lines_[index(kind)];
  spdlog::info("{} registered{}", pager->title(),
               line.empty() ? "" : " and waits: another one serves");
  line.push_back(kj::mv(pager));
  publish();
  ever_registered_[index(kind)] = true;
  offer_ring(*line.back());
  attach_waiting(kind);
}

// A pager that does not take it, or a server without descriptors for it, does with calls.
void PagerHub::offer_ring(RegisteredPager& pager) {
  try {
    pager.ring = std::make_unique<PageInRing>();
  } catch (const std::system_error& error) {
    log_.error(pager.title() + ": page-ins by calls: " + error.what());
    return;
  }
  auto request = pager.client.ringRequest();
  request.setMemory(protocol::offer_descriptor(pager.ring->memory()));
  request.setRequests(protocol::offer_descriptor(pager.ring->request_bell()));
  request.setReplies(protocol::offer_descriptor(pager.ring->reply_bell()));
  tasks_->set.add(request.send().ignoreResult().then(
      [this, pager = kj::addRef(pager)]() mutable { ring_taken(*pager); },
      [this, pager = kj::addRef(pager)](kj::Exception&& exception) {
        using Type = kj::Exception::Type;
        if (exception.getType() == Type::DISCONNECTED || exception.getType() == Type::UNIMPLEMENTED)
          return;
        log_.error(pager->title() + ": ring: " + printable(exception.getDescription().cStr()));
      }));
}

void PagerHub::ring_taken(RegisteredPager& pager) {
  if (pager.gone) return;
  queue_.add_ring(*pager.ring);
  pager.replies = kj::heap<kj::UnixEventPort::FdObserver>(
      *port_, pager.ring->reply_bell().get(), kj::UnixEventPort::FdObserver::OBSERVE_READ);
  pager.reading_replies = read_replies(pager).eagerlyEvaluate(nullptr);
  for (auto& [address, object] : objects_)
    if (object->served_by(pager)) object->use_ring();
}

kj::Promise<void> PagerHub::read_replies(RegisteredPager& pager) {
  // Each ring of the bell is an event, whether or not its count is read.
  auto rung = pager.replies->whenBecomesReadable();
  while (const auto reply = queue_.take_reply(*pager.ring)) {
    if (reply->absurd) {
      pager_failed(pager, "it answers page-ins that nobody asked for");
      return kj::NEVER_DONE;
    }
    if (reply->transfer == nullptr) continue;  // it is not awaited any more
    if (reply->filled) {
      reply->transfer->done(Error::none);
    } else {
      static_cast<RemoteObject*>(reply->inbox)->call_instead(*reply->transfer);
    }
  }
  return rung.then([this, &pager] { return read_replies(pager); });
}

void PagerHub::lose(RegisteredPager& pager, const std::string& why) {
  if (pager.gone || !tasks_) return;
  pager.gone = true;
  publish();
  // The caller may be running inside something that dropping the pager destroys.
  tasks_->set.add(
      kj::evalLater([this, pager = kj::addRef(pager), why]() mutable { drop(*pager, why); }));
}

void PagerHub::drop(RegisteredPager& pager, const std::string& why) {
  std::size_t objects = 0;
  for (auto& [address, object] : objects_) {
    if (!object->served_by(pager)) continue;
    ++objects;
    object->pager_died();
  }
  if (pager.ring) queue_.remove_ring(*pager.ring);
  pager.reading_replies = nullptr;
  pager.replies = nullptr;
  auto& line = lines_[index(pager.kind)];
  std::erase_if(line, [&](const kj::Own<RegisteredPager>& other) { return other.get() == &pager; });
  const std::string next = line.empty() ? "waiting for the next pager of that kind"
                                        : line.front()->title() + " takes over";
  spdlog::error("{} is gone ({}); {} objects keep what they hold; {}", pager.title(),
                printable(why, 120), objects, next);

  // A device that was being opened has nobody to wait for it.
  for (auto& [address, object] : objects_)
    if (object->opening() && !object->attached()) device_opened(*object, Error::no_device);
  attach_waiting(pager.kind);
}

void PagerHub::publish() {
  std::uint64_t all = 0;
  std::uint64_t devices = 0;
  std::map<std::pair<std::uint64_t, std::uint64_t>, unsigned> claims;
  for (auto& line : lines_) {
    for (auto& pager : line) {
      if (pager->gone) continue;
      ++all;
      if (pager->kind == PagerKind::device) ++devices;
      for (const auto& claim : pager->claims) ++claims[{claim.device, claim.inode}];
    }
  }
  registered_ = all;
  devices_registered_ = devices;
  const std::lock_guard lock(claims_mutex_);
  claims_.swap(claims);
}

void PagerHub::pager_failed(RegisteredPager& pager, const std::string& why) {
  if (pager.gone) return;
  lose(pager, why);
  pager.disconnect();
}

void PagerHub::device_opened(RemoteObject& object, vm::Result<vm::OpenedObject> result) {
  vm::OpenDone done = object.take_device_done();
  if (!result) {
    done(result.error());
    // Called from a task of the object's: destroy it from a task of the hub's.
    tasks_->set.add(kj::evalLater([this, address = &object] { objects_.erase(address); }));
    return;
  }
  result.value().object = std::make_unique<Handle>(queue_, object);
  done(std::move(result));
}

kj::Promise<void> PagerHub::framebuffer(kj::StringPtr name,
                                        protocol::Control::FramebufferResults::Builder results) {
  return ask_framebuffer(0, kj::heapString(name), results);
}

kj::Promise<void> PagerHub::ask_framebuffer(
    std::size_t position, kj::String name, protocol::Control::FramebufferResults::Builder results) {
  auto& line = lines_[index(PagerKind::device)];
  if (position >= line.size()) {
    results.setFound(false);
    return kj::READY_NOW;
  }
  auto request = line[position]->client.framebufferRequest();
  request.setName(name);
  return request.send()
      .then(
          [results](capnp::Response<protocol::Pager::FramebufferResults>&& response) mutable {
            if (!response.getFound() || !response.hasFramebuffer()) return false;
            results.setFound(true);
            results.setFramebuffer(response.getFramebuffer());
            return true;
          },
          [title = line[position]->title()](kj::Exception&& exception) {
            spdlog::error("{}: framebuffer: {}", title,
                          printable(exception.getDescription().cStr()));
            return false;
          })
      .then(
          [this, position, name = kj::mv(name), results](bool found) mutable -> kj::Promise<void> {
            if (found) return kj::READY_NOW;
            return ask_framebuffer(position + 1, kj::mv(name), results);
          });
}

kj::Promise<void> PagerHub::shut_down(kj::Timer& timer) {
  queue_.stop();
  take_queued();
  for (auto& [address, object] : objects_) {
    if (object->opening()) {
      vm::OpenDone done = object->take_device_done();
      done(Error::no_device);
    }
    object->fail_all(Error::no_device);
  }
  // An answer to any call says that everything sent before it has been seen.
  auto answers = kj::heapArrayBuilder<kj::Promise<void>>(registered());
  for (auto& line : lines_) {
    for (auto& pager : line) {
      if (pager->gone || answers.isFull()) continue;
      answers.add(pager->client.framebufferRequest().send().ignoreResult().catch_(
          [](kj::Exception&&) { /* it is gone, and with it all it had */ }));
    }
  }
  return kj::joinPromises(answers.finish())
      .exclusiveJoin(timer.afterDelay(1 * kj::SECONDS))
      .eagerlyEvaluate(nullptr);
}

}  // namespace server
