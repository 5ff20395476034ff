#include "hal/sim/sim_page_table.h"

#include <algorithm>

namespace hal {

// Levels are counted from the root, 3, down; a table of level 1 holds leaves.
struct SimPageTable::Table {
  std::array<std::unique_ptr<Table>, kEntries> tables;
  std::array<std::unique_ptr<Leaf>, kEntries> leaves;

  bool empty() const {
    return std::all_of(tables.begin(), tables.end(), [](const auto& p) { return !p; }) &&
           std::all_of(leaves.begin(), leaves.end(), [](const auto& p) { return !p; });
  }
};

namespace {

constexpr unsigned kTop = SimPageTable::kLevels - 1;

std::uint64_t number_of(VirtualAddress address) { return address.value() >> kPageShift; }

// Pages that one entry of a table of this level stands for.
constexpr std::uint64_t span_of(unsigned level) {
  return std::uint64_t{1} << (level * SimPageTable::kBitsPerLevel);
}

std::size_t index_of(std::uint64_t number, unsigned level) {
  return (number / span_of(level)) % SimPageTable::kEntries;
}

}  // namespace

SimPageTable::SimPageTable() : root_(std::make_unique<Table>()) {}
SimPageTable::~SimPageTable() = default;

SimPage* SimPageTable::find(VirtualAddress address) {
  const Number number = number_of(address);
  Table* table = root_.get();
  for (unsigned level = kTop; level > 1; --level) {
    table = table->tables[index_of(number, level)].get();
    if (table == nullptr) return nullptr;
  }
  Leaf* leaf = table->leaves[index_of(number, 1)].get();
  if (leaf == nullptr) return nullptr;
  SimPage& page = leaf->pages[index_of(number, 0)];
  return page.absent() ? nullptr : &page;
}

SimPage& SimPageTable::entry(VirtualAddress address) {
  const Number number = number_of(address);
  Table* table = root_.get();
  for (unsigned level = kTop; level > 1; --level) {
    std::unique_ptr<Table>& next = table->tables[index_of(number, level)];
    if (!next) {
      next = std::make_unique<Table>();
      ++tables_;
    }
    table = next.get();
  }
  std::unique_ptr<Leaf>& leaf = table->leaves[index_of(number, 1)];
  if (!leaf) {
    leaf = std::make_unique<Leaf>();
    ++tables_;
  }
  return leaf->pages[index_of(number, 0)];
}

void SimPageTable::erase(VirtualRange range) {
  if (range.empty()) return;
  erase(*root_, kTop, 0, number_of(range.start()), number_of(range.end().page_ceil()));
}

void SimPageTable::erase(Table& table, unsigned level, Number base, Number first, Number end) {
  const Number span = span_of(level);
  for (Number at = std::max(base, first / span * span); at < end; at += span) {
    const std::size_t index = index_of(at, level);
    if (level > 1) {
      std::unique_ptr<Table>& next = table.tables[index];
      if (next) {
        erase(*next, level - 1, at, first, end);
        if (next->empty()) {
          next.reset();
          --tables_;
        }
      }
    } else if (std::unique_ptr<Leaf>& leaf = table.leaves[index]; leaf) {
      bool empty = true;
      for (Number page = at; page < at + span; ++page) {
        SimPage& entry = leaf->pages[page - at];
        if (page >= first && page < end) entry = SimPage();
        empty = empty && entry.absent();
      }
      if (empty) {
        leaf.reset();
        --tables_;
      }
    }
    if (index == kEntries - 1) break;
  }
}

void SimPageTable::for_each(VirtualRange range,
                            const std::function<void(VirtualAddress, SimPage&)>& sink) {
  if (range.empty()) return;
  visit(*root_, kTop, 0, number_of(range.start()), number_of(range.end().page_ceil()), sink);
}

void SimPageTable::visit(Table& table, unsigned level, Number base, Number first, Number end,
                         const std::function<void(VirtualAddress, SimPage&)>& sink) {
  const Number span = span_of(level);
  for (Number at = std::max(base, first / span * span); at < end; at += span) {
    const std::size_t index = index_of(at, level);
    if (level > 1) {
      if (Table* next = table.tables[index].get()) visit(*next, level - 1, at, first, end, sink);
    } else if (Leaf* leaf = table.leaves[index].get()) {
      for (Number page = std::max(at, first); page < std::min(at + span, end); ++page) {
        SimPage& entry = leaf->pages[page - at];
        if (!entry.absent()) sink(VirtualAddress(page << kPageShift), entry);
      }
    }
    if (index == kEntries - 1) break;
  }
}

}  // namespace hal
