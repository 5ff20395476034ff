// What programs should see, page by page: the model that the whole core is compared with.
//
//   ModelObject   content that programs share: a file, or shared anonymous memory
//   ModelPage     one mapped page of one program
//   ModelProgram  the pages of one program, and what each call should make of them
//
// A page's content is kept as bytes at a few places, kCells.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

namespace test {

inline constexpr std::uint64_t kCells[] = {0, 1234, 2049, 4095};
inline constexpr std::size_t kCellCount = std::size(kCells);
using Cells = std::array<std::uint8_t, kCellCount>;

struct ModelObject {
  std::vector<Cells> pages;
};

enum class Touch { done, segmentation_fault, bus_error };

struct ModelPage {
  std::shared_ptr<ModelObject> object;  // nullptr: private anonymous memory
  std::uint64_t index = 0;              // of the object's page
  bool shared = false;
  std::uint64_t protection = 0;
  std::uint64_t maximum = 7;
  enum class Inherited { as_it_is, not_at_all, as_a_copy } inherited = Inherited::as_it_is;
  bool alone = false;  // in an object of its own here, but not in the server's
  std::optional<Cells> own;  // a private copy

  bool beyond() const { return object && index >= object->pages.size(); }
  bool shared_writable() const { return shared && (maximum & 2) != 0; }
  Cells& content() {
    if (own) return *own;
    if (object) return object->pages[index];
    return own.emplace();
  }
  /// The content as it is now, in an object of its own.
  void give_object() {
    auto fresh = std::make_shared<ModelObject>();
    if (!beyond()) fresh->pages.push_back(content());
    object = std::move(fresh);
    index = 0;
    own.reset();
    alone = true;
  }
  /// What a store does first.
  void copy_on_write() {
    if (!shared && !own) own = object ? object->pages[index] : Cells{};
  }
};

class ModelProgram {
 public:
  using Pages = std::map<std::uint64_t, ModelPage>;  // by number within the server's room

  const ModelPage* find(std::uint64_t page) const {
    auto it = pages_.find(page);
    return it == pages_.end() ? nullptr : &it->second;
  }
  ModelPage* find(std::uint64_t page) {
    auto it = pages_.find(page);
    return it == pages_.end() ? nullptr : &it->second;
  }

  bool covers(std::uint64_t first, std::uint64_t count) const {
    for (std::uint64_t i = first; i < first + count; ++i) {
      if (find(i) == nullptr) return false;
    }
    return true;
  }
  std::uint64_t first_fit(std::uint64_t count) const {
    std::uint64_t candidate = 0;
    for (const auto& [number, page] : pages_) {
      if (number >= candidate + count) break;
      candidate = number + 1;
    }
    return candidate;
  }

  void map(std::uint64_t first, std::uint64_t count, ModelPage page) {
    for (std::uint64_t i = 0; i < count; ++i) {
      page.index += i == 0 ? 0 : 1;
      pages_[first + i] = page;
    }
  }
  void unmap(std::uint64_t first, std::uint64_t count) {
    pages_.erase(pages_.lower_bound(first), pages_.lower_bound(first + count));
  }
  template <class Visit>
  void for_each(std::uint64_t first, std::uint64_t count, Visit visit) {
    for (auto it = pages_.lower_bound(first); it != pages_.end() && it->first < first + count;
         ++it) {
      visit(it->second);
    }
  }

  Touch check(std::uint64_t number, bool write) const {
    const ModelPage* page = find(number);
    if (page == nullptr || page->protection == 0 || (write && (page->protection & 2) == 0)) {
      return Touch::segmentation_fault;
    }
    // A private copy lives and dies with the object's page.
    return page->beyond() ? Touch::bus_error : Touch::done;
  }

  /// What mlock touches, page by page, until it fails. Whether it does not.
  bool wire(std::uint64_t first, std::uint64_t count) {
    for (std::uint64_t i = first; i < first + count; ++i) {
      ModelPage& page = pages_.at(i);
      if (page.protection == 0 || page.beyond()) return false;
      if ((page.protection & 2) != 0) page.copy_on_write();
    }
    return true;
  }

  /// After mremap: what was at `first` is at `target`, with `new_count` pages in all.
  void remap(std::uint64_t first, std::uint64_t count, std::uint64_t target,
             std::uint64_t new_count) {
    Pages moved;
    for (std::uint64_t i = 0; i < new_count; ++i) {
      if (i < count) {
        moved[target + i] = pages_.at(first + i);
        continue;
      }
      ModelPage grown = pages_.at(first);
      grown.index += i;
      grown.own.reset();
      moved[target + i] = grown;
    }
    unmap(first, count);
    unmap(target, new_count);
    pages_.merge(moved);
  }

  ModelProgram fork() const {
    using Inherited = ModelPage::Inherited;
    ModelProgram child = *this;
    std::erase_if(child.pages_,
                  [](const auto& entry) { return entry.second.inherited == Inherited::not_at_all; });
    for (auto& [number, page] : child.pages_) {
      if (page.inherited != Inherited::as_a_copy) continue;
      page.give_object();
      page.shared = false;
      page.maximum = 7;
      page.inherited = Inherited::as_it_is;
    }
    return child;
  }

  const Pages& pages() const { return pages_; }

 private:
  Pages pages_;
};

}  // namespace test
