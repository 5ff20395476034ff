#include "libshim/libc_image.h"

#include <elf.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>

namespace shim {
namespace {

constexpr const char* kSoname = "libc.so.6";

// The loader has added the base to these, except in what it did not load itself.
uint64_t loaded(const link_map& object, uint64_t address) {
  return address < object.l_addr ? address + object.l_addr : address;
}

struct Tables {
  uint64_t symbols = 0;
  uint64_t names = 0;
  uint64_t hashes = 0;
  uint64_t soname = 0;
};

Tables tables_of(const link_map& object) {
  Tables tables;
  for (const ElfW(Dyn)* entry = object.l_ld; entry != nullptr && entry->d_tag != DT_NULL; ++entry) {
    switch (entry->d_tag) {
      case DT_SYMTAB:
        tables.symbols = loaded(object, entry->d_un.d_ptr);
        break;
      case DT_STRTAB:
        tables.names = loaded(object, entry->d_un.d_ptr);
        break;
      case DT_GNU_HASH:
        tables.hashes = loaded(object, entry->d_un.d_ptr);
        break;
      case DT_SONAME:
        tables.soname = entry->d_un.d_val;
        break;
      default:
        break;
    }
  }
  return tables;
}

uint32_t hash_of(const char* name) {
  uint32_t hash = 5381;
  for (; *name != '\0'; ++name) hash = hash * 33 + static_cast<uint8_t>(*name);
  return hash;
}

}  // namespace

bool LibcImage::find() {
  for (const link_map* object = _r_debug.r_map; object != nullptr; object = object->l_next) {
    const Tables tables = tables_of(*object);
    if (tables.soname == 0 || tables.names == 0) continue;
    const char* const names = reinterpret_cast<const char*>(tables.names);
    if (strcmp(names + tables.soname, kSoname) != 0) continue;
    if (tables.symbols == 0 || tables.hashes == 0) return false;
    base_ = object->l_addr;
    symbols_ = reinterpret_cast<const void*>(tables.symbols);
    names_ = names;
    hashes_ = reinterpret_cast<const uint32_t*>(tables.hashes);
    return find_text(getauxval(AT_PAGESZ));
  }
  return false;
}

// A library is linked to the address 0, so its header is where it was loaded to.
bool LibcImage::find_text(uint64_t page) {
  const auto* const header = reinterpret_cast<const ElfW(Ehdr)*>(base_);
  if (header == nullptr || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) return false;
  const auto* const segments = reinterpret_cast<const ElfW(Phdr)*>(base_ + header->e_phoff);
  for (unsigned i = 0; i < header->e_phnum; ++i) {
    const ElfW(Phdr)& segment = segments[i];
    if (segment.p_type != PT_LOAD || segment.p_flags != (PF_R | PF_X)) continue;
    text_start_ = (base_ + segment.p_vaddr) / page * page;
    text_end_ = (base_ + segment.p_vaddr + segment.p_memsz + page - 1) / page * page;
    return true;
  }
  return false;
}

bool LibcImage::function(const char* name, Function& found) const {
  const uint32_t bucket_count = hashes_[0];
  const uint32_t first_hashed = hashes_[1];
  const uint32_t bloom_words = hashes_[2];
  if (bucket_count == 0) return false;
  const uint32_t* const buckets = hashes_ + 4 + bloom_words * (sizeof(ElfW(Addr)) / 4);
  const uint32_t* const chain = buckets + bucket_count;
  const auto* const symbols = static_cast<const ElfW(Sym)*>(symbols_);
  const uint32_t hash = hash_of(name);
  uint32_t index = buckets[hash % bucket_count];
  if (index < first_hashed) return false;
  for (;; ++index) {
    const uint32_t other = chain[index - first_hashed];
    const ElfW(Sym)& symbol = symbols[index];
    if ((other | 1) == (hash | 1) && symbol.st_shndx != SHN_UNDEF &&
        ELF64_ST_TYPE(symbol.st_info) == STT_FUNC && strcmp(names_ + symbol.st_name, name) == 0) {
      found = {base_ + symbol.st_value, symbol.st_size};
      return true;
    }
    if ((other & 1) != 0) return false;
  }
}

}  // namespace shim
