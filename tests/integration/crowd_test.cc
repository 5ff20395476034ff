// Many programs with next to no memory, all at once, each with a model of what it must find.
//
// What they do is tests/programs/crowd_steps.c. They check themselves; here they are started, and
// in the end the file that all of them shared is compared with what they say is in it.
#include <sys/mman.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdint>
#include <iostream>
#include <string>
#include <vector>

#include "tests/programs/crowd_steps.h"
#include "tests/support/numbers.h"
#include "tests/support/server.h"

using support::ServerOptions;
using support::ServerUnderTest;

namespace {

constexpr std::size_t kPage = 4096;
static_assert(kPage == CROWD_CELLS * CROWD_CELL_WORDS * sizeof(std::uint64_t));

class Board {
 public:
  Board() : memory_(memfd_create("board", MFD_CLOEXEC)) {
    REQUIRE(memory_);
    REQUIRE(ftruncate(memory_.get(), sizeof(crowd_board)) == 0);
    void* at =
        mmap(nullptr, sizeof(crowd_board), PROT_READ | PROT_WRITE, MAP_SHARED, memory_.get(), 0);
    REQUIRE(at != MAP_FAILED);
    board_ = static_cast<crowd_board*>(at);
    for (std::uint64_t page = 0; page < CROWD_FILE_PAGES; ++page) {
      for (unsigned cell = 0; cell < CROWD_CELLS; ++cell) {
        board_->file[page].key[cell] = board_->file[page].coming[cell] =
            crowd_first_key(page, cell);
      }
    }
  }
  ~Board() { munmap(board_, sizeof(crowd_board)); }
  Board(const Board&) = delete;
  Board& operator=(const Board&) = delete;

  int descriptor() const { return memory_.get(); }
  crowd_board* operator->() { return board_; }

  /// What the file holds, if the board says the truth.
  std::string content() const {
    std::string result;
    result.reserve(CROWD_FILE_PAGES * kPage);
    for (const crowd_page& page : board_->file) {
      for (const std::uint64_t key : page.key) {
        for (unsigned i = 0; i < CROWD_CELL_WORDS; ++i) {
          const std::uint64_t word = crowd_word(key, i);
          result.append(reinterpret_cast<const char*>(&word), sizeof(word));
        }
      }
    }
    return result;
  }

 private:
  tools::UniqueFd memory_;
  crowd_board* board_ = nullptr;
};

struct Crowd {
  unsigned programs;
  unsigned lanes;         // of each
  std::uint64_t steps;    // of all
  unsigned forks_in = 8;  // one in so many of the steps that could fork does
  unsigned kills = 0;     // of pager-anon, evenly over the steps
};

void run_crowd(const ServerOptions& options, const Crowd& crowd) {
  const std::uint64_t seed = support::chosen_seed();
  std::cout << "seed " << seed << ", " << crowd.steps
            << " steps (TEST_SEED and TEST_STEPS set them)\n";
  INFO("TEST_SEED=" << seed);
  ServerUnderTest server(options);
  Board board;
  board->lanes = crowd.programs * crowd.lanes + 1;
  const bool limited = !options.options.empty();
  board->keeps_freed = limited ? 0 : 1;
  board->forks_in = crowd.forks_in;
  const std::string file = server.file("f", board.content());
  std::vector<support::Process> running;
  for (unsigned i = 0; i < crowd.programs; ++i) {
    support::Command command = server.command(
        {"crowd_steps", "run", std::to_string(seed), std::to_string(crowd.steps),
         std::to_string(crowd.lanes), std::to_string(board.descriptor()), file, std::to_string(i),
         std::to_string(crowd.programs)});
    command.descriptors = {board.descriptor()};
    running.emplace_back(command);
  }
  const auto all_ended = [&] {
    for (const support::Process& program : running) {
      if (!program.ended()) return false;
    }
    return true;
  };
  // As long as steps are taken, nothing is stuck.
  const auto in_the_end = [&](const auto& condition) {
    for (std::uint64_t seen = ~std::uint64_t{0}; !condition(); seen = board->steps) {
      const auto goes_on = [&] { return condition() || board->steps != seen; };
      if (!support::eventually(goes_on)) return false;
    }
    return true;
  };
  for (unsigned i = 1; i <= crowd.kills; ++i) {
    const std::uint64_t reached = i * crowd.steps / (crowd.kills + 1);
    INFO(board->steps << " steps of " << reached << "; the server says: " << server.log());
    REQUIRE(in_the_end([&] { return board->steps >= reached || all_ended(); }));
    server.pager("anon").kill();
    server.start_pager("anon");
  }
  in_the_end(all_ended);
  for (support::Process& program : running) {
    INFO("the server says: " << server.log());
    CHECK(program.wait().text() == "status 0");
  }
  CHECK(board->steps >= crowd.steps);
  const support::Statistics statistics = server.statistics();
  std::cout << board->forks << " forks, " << board->kills << " kills, " << statistics.pageouts
            << " pageouts, " << statistics.pageins << " pageins, " << statistics.faults
            << " faults\n";
  if (limited) CHECK(statistics.pageouts > 0);
  {
    INFO("the server says: " << server.log());
    CHECK(server.log().find("are lost") == std::string::npos);
  }
  CHECK(support::eventually([&] { return server.statistics().spaces == 0; }));
  CHECK(support::eventually([&] { return server.statistics().objects == 0; }));
  const bool file_is_right = support::read_file(file) == board.content();
  CHECK(file_is_right);
}

std::uint64_t steps() { return support::number_from("TEST_STEPS", 800'000); }

}  // namespace

TEST_CASE("programs with next to no memory find in it what they stored last") {
  run_crowd({.options = {"--memory", "6M"}}, {.programs = 3, .lanes = 2, .steps = steps()});
}

// They make many of their calls by themselves then.
TEST_CASE("the same with as much memory as they want") {
  run_crowd({}, {.programs = 2, .lanes = 3, .steps = steps() / 4, .forks_in = 1});
}

TEST_CASE("the same with a pager that compresses, and many threads") {
  run_crowd({.options = {"--memory", "8M"}, .anon_options = {"--compress", "lz4"}},
            {.programs = 2, .lanes = 3, .steps = steps() / 4});
}

TEST_CASE("the same with a pager that is killed again and again, and keeps") {
  run_crowd({.options = {"--memory", "6M"},
             .anon_options = {"--swap", "DIRECTORY/swap", "--keep"}},
            {.programs = 2, .lanes = 2, .steps = steps() / 20, .kills = 20});
}

// Most of the time goes into the forks here.
TEST_CASE("the same with next to no memory and all the forks they can have") {
  run_crowd({.options = {"--memory", "6M"}},
            {.programs = 3, .lanes = 2, .steps = steps() / 20, .forks_in = 1});
}
