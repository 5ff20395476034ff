// redis-server under redis-benchmark: what it holds afterwards, what it saves and loads again, and
// what its forked child saves while it goes on changing.
#include <catch2/catch.hpp>

#include "tests/real/comparison.h"
#include "tests/real/quarter.h"

namespace {

/// A server on a Unix socket in a directory, native or served. It writes what it has to `dump.rdb`
/// there and starts from that.
class Redis {
 public:
  Redis(const real::TemporaryDirectory& directory, bool served,
        const std::vector<std::string>& options = {})
      : directory_(directory.path()), socket_((directory_ / "redis.sock").string()) {
    // Its own log tells pids and times.
    real::Command command = make({"redis-server", "--port", "0", "--unixsocket", socket_, "--dir",
                                  directory_.string(), "--save", "", "--appendonly", "no",
                                  "--enable-debug-command", "yes", "--loglevel", "warning"});
    if (served)
      served_ = std::make_unique<real::Served>(std::move(command), directory_, options);
    else
      native_ = std::make_unique<real::Process>(std::move(command));
    const bool answers = real::holds_in_time(
        [&] { return std::filesystem::exists(socket_) && said({"PING"}) == "PONG\n"; });
    REQUIRE(answers);
  }

  /// What redis-cli prints.
  std::string said(std::vector<std::string> words, std::string input = {}) {
    words.insert(words.begin(), {"redis-cli", "-s", socket_});
    const real::Outcome outcome =
        real::Process(make(std::move(words), std::move(input))).wait(patience_);
    return outcome.output + outcome.errors;
  }
  real::Command benchmark(std::vector<std::string> words) const {
    words.insert(words.begin(), {"redis-benchmark", "-s", socket_, "-q", "-d", "512"});
    return make(std::move(words));
  }
  void run_benchmark(std::vector<std::string> words) {
    const real::Outcome outcome = real::Process(benchmark(std::move(words))).wait();
    INFO(outcome.output << outcome.errors);
    CHECK(outcome.exited_with(0));
    CHECK(outcome.errors.find("Error") == std::string::npos);
  }
  void set_patience(std::chrono::seconds patience) { patience_ = patience; }
  std::string digest() {
    const std::string text = said({"DEBUG", "DIGEST"});
    CHECK(text.size() == 41);  // 40 digits
    return text;
  }
  std::string information(const std::string& field) {
    const std::string text = said({"INFO", "persistence"});
    const std::size_t at = text.find(field + ":");
    REQUIRE(at != std::string::npos);
    const std::size_t start = at + field.size() + 1;
    return text.substr(start, text.find_first_of("\r\n", start) - start);
  }
  /// Ends it; returns what it had resident at most.
  std::uint64_t stop(std::chrono::seconds patience = real::kPatience) {
    // The server closes the connection instead of answering.
    said({"SHUTDOWN", "NOSAVE"});
    const real::Outcome outcome = served_ ? served_->wait(patience) : native_->wait(patience);
    INFO(outcome.output << outcome.errors);
    CHECK(outcome.exited_with(0));
    return outcome.peak_bytes;
  }
  const nlohmann::json& statistics() const { return served_->statistics(); }

 private:
  real::Command make(std::vector<std::string> words, std::string input = {}) const {
    return {std::move(words), std::move(input), directory_.string(),
            real::plain_environment(directory_)};
  }

  std::filesystem::path directory_;
  std::string socket_;
  std::chrono::seconds patience_ = real::kPatience;
  std::unique_ptr<real::Process> native_;
  std::unique_ptr<real::Served> served_;
};

/// Keys of every type, for redis-cli --pipe.
std::string data_set() {
  std::string commands;
  for (int i = 0; i < 20000; ++i) {
    const std::string n = std::to_string(i);
    const std::string value(static_cast<std::size_t>(10 + i * 37 % 900),
                            static_cast<char>('a' + i % 26));
    commands += "SET string:" + n + " " + value + n + "\r\n";
    commands += "HSET hash:" + std::to_string(i % 300) + " field" + n + " " + n + "\r\n";
    commands += "RPUSH list:" + std::to_string(i % 70) + " element" + n + "\r\n";
    commands += "ZADD sorted:" + std::to_string(i % 50) + " " + n + " member" + n + "\r\n";
    if (i % 3 == 0) commands += "DEL string:" + std::to_string(i / 2) + "\r\n";
  }
  return commands;
}

void expect_served(const Redis& redis) {
  const auto& statistics = redis.statistics();
  INFO(statistics.dump());
  CHECK(statistics["faults"].get<std::uint64_t>() > 0);
  CHECK(statistics["calls"]["mmap"].get<std::uint64_t>() > 0);
  CHECK(statistics["failed_faults"].get<std::uint64_t>() == 0);
}

}  // namespace

TEST_CASE("redis-server holds the same values and saves and loads them", "[redis]") {
  const std::string commands = data_set();
  std::vector<std::string> digests[2];
  for (const bool served : {false, true}) {
    const real::TemporaryDirectory directory;
    std::vector<std::string>& seen = digests[served ? 1 : 0];
    Redis redis(directory, served);
    CHECK(redis.said({"--pipe"}, commands).find("errors: 0") != std::string::npos);
    seen.push_back(redis.digest());
    // Without -r the benchmark uses one key of each kind, so that what it leaves is always the
    // same.
    redis.run_benchmark({"-n", "20000", "-c", "20", "-P", "4", "-t",
                         "set,get,incr,lpush,rpush,lpop,sadd,hset,spop,zadd,mset"});
    CHECK(redis.said({"GET", "counter:__rand_int__"}) == "20000\n");
    CHECK(redis.said({"LLEN", "mylist"}) == "20000\n");
    seen.push_back(redis.digest());
    CHECK(redis.said({"DEBUG", "RELOAD"}) == "OK\n");
    seen.push_back(redis.digest());
    CHECK(redis.said({"SAVE"}) == "OK\n");
    redis.stop();
    if (served) expect_served(redis);

    Redis again(directory, served);
    seen.push_back(again.digest());
    seen.push_back(again.said({"GET", "string:19999"}));
    again.stop();
    CHECK(seen[1] == seen[2]);
    CHECK(seen[1] == seen[3]);
  }
  CHECK(digests[0] == digests[1]);
}

TEST_CASE("redis-server's child saves every value while the server changes them", "[redis]") {
  const real::TemporaryDirectory directory;
  Redis redis(directory, true);
  redis.run_benchmark({"-n", "50000", "-r", "30000", "-c", "20", "-t", "set"});
  real::Process load(
      redis.benchmark({"-n", "100000", "-r", "30000", "-c", "20", "-t", "set,sadd"}));
  CHECK(redis.said({"BGSAVE"}) == "Background saving started\n");
  CHECK(real::holds_in_time([&] { return redis.information("rdb_bgsave_in_progress") == "0"; }));
  CHECK(redis.information("rdb_last_bgsave_status") == "ok");
  CHECK(load.wait().exited_with(0));
  redis.stop();
  expect_served(redis);
  CHECK(redis.statistics()["forks"].get<std::uint64_t>() > 0);

  // Every value is the benchmark's 512 bytes, which are the same for all keys.
  Redis again(directory, true);
  const std::string wrong_values =
      "local wrong, keys = 0, redis.call('KEYS', 'key:*')\n"
      "local first = redis.call('GET', keys[1])\n"
      "for _, key in ipairs(keys) do\n"
      "  local value = redis.call('GET', key)\n"
      "  if #value ~= 512 or value ~= first then wrong = wrong + 1 end\n"
      "end\n"
      "return {wrong, #keys > 20000 and 'all there' or #keys}";
  CHECK(again.said({"EVAL", wrong_values, "0"}) == "0\nall there\n");
  again.stop();
}

TEST_CASE("redis-server dumps and reloads what is four times its memory", "[.quarter]") {
  // Values of 1000 bytes.
  const std::string keys = std::to_string(real::quarter_bytes() / 1200);
  std::uint64_t need = 0;
  std::vector<std::string> digests[2];
  for (const bool served : {false, true}) {
    const real::TemporaryDirectory directory;
    const std::vector<std::string> options{"--memory", std::to_string(need / 4)};
    Redis redis(directory, served, served ? options : std::vector<std::string>{});
    redis.set_patience(real::kQuarterPatience);
    std::vector<std::string>& seen = digests[served ? 1 : 0];
    CHECK(redis.said({"DEBUG", "POPULATE", keys, "key", "1000"}) == "OK\n");
    seen.push_back(redis.digest());
    CHECK(redis.said({"DEBUG", "RELOAD"}) == "OK\n");
    seen.push_back(redis.digest());
    CHECK(redis.said({"DBSIZE"}) == keys + "\n");
    const std::uint64_t peak = redis.stop(real::kQuarterPatience);
    if (!served) need = peak;
    if (served) expect_served(redis);
    if (served) CHECK(redis.statistics()["pageouts"].get<std::uint64_t>() > 0);
    CHECK(seen[0] == seen[1]);
  }
  CHECK(digests[0] == digests[1]);
}
