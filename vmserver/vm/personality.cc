#include "vmserver/vm/personality.h"

#include <string>

namespace vm {
namespace {

constexpr const Personality* kAll[] = {&kFreebsd7, &kFreebsd14, &kLinux};

std::string join_names() {
  std::string names;
  for (const Personality* personality : kAll) {
    if (!names.empty()) names += ", ";
    names += personality->name;
  }
  return names;
}

}  // namespace

const Personality* find_personality(std::string_view name) {
  for (const Personality* personality : kAll) {
    if (name == personality->name) return personality;
  }
  return nullptr;
}

const char* personality_names() {
  static const std::string names = join_names();
  return names.c_str();
}

}  // namespace vm
