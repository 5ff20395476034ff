// mmap of devices: /dev/zero, which is anonymous memory by another name, /dev/null, which is no
// memory at all, and a loop device, which is a device with pages of its own.
#include "observe.h"
#include "rule.h"

static const char* map_path(const char* path, int rights, int protection, int flags) {
  const int device = open(path, rights);
  require(device >= 0);
  return mapped(mmap(NULL, PAGE, protection, flags, device, 0));
}

RULE(mmap, zero_device, "/dev/zero, private: what is stored there",
     EVERYWHERE("reads 0, then reads 9", "seed vm_mmap_cdev()", "mmap(2)", "zero(4)")) {
  byte* const at = mmap(NULL, PAGE, READ_WRITE, MAP_PRIVATE, open("/dev/zero", O_RDWR), 0);
  if (at == MAP_FAILED) return error_name(errno);
  const char* const first = load(at);
  *at = 9;
  return say("%s, then %s", first, load(at));
}

RULE(mmap, zero_device_write_without_the_right,
     "/dev/zero, private, open for reading only, with PROT_WRITE",
     EVERYWHERE("maps it", "seed vm_mmap_cdev()", "mmap(2)", "mmap(2)")) {
  return map_path("/dev/zero", O_RDONLY, READ_WRITE, MAP_PRIVATE);
}

RULE(mmap, zero_device_shared_write_without_the_right,
     "/dev/zero, shared, open for reading only, with PROT_WRITE",
     EVERYWHERE("EACCES", "seed mmap()", "mmap(2)", "mmap(2)")) {
  return map_path("/dev/zero", O_RDONLY, READ_WRITE, MAP_SHARED);
}

RULE(mmap, zero_device_gets_any_protection,
     "/dev/zero, open for reading only, mapped shared for reading, is to become writable",
     BOTH_FREEBSDS("succeeds", "seed vm_mmap_cdev()", "vm_mmap.c vm_mmap_cdev()"),
     LINUX("EACCES", "mprotect(2)")) {
  void* const at = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, open("/dev/zero", O_RDONLY), 0);
  if (at == MAP_FAILED) return error_name(errno);
  return status(mprotect(at, PAGE, READ_WRITE));
}

RULE(mmap, zero_device_with_children, "/dev/zero, shared: a child stores there, the parent",
     EVERYWHERE("reads 9", "seed vm_mmap_cdev()", "mmap(2)", "mmap(2)")) {
  byte* const at = mmap(NULL, PAGE, READ_WRITE, MAP_SHARED, open("/dev/zero", O_RDWR), 0);
  if (at == MAP_FAILED) return error_name(errno);
  require(child_store(at, 9) == 0);
  return load(at);
}

RULE(mmap, zero_device_twice, "/dev/zero, shared, mapped twice: a store to one, the other",
     EVERYWHERE("reads 0", "seed vm_mmap_cdev()", "mmap(2)", "mmap(2)")) {
  const int device = open("/dev/zero", O_RDWR);
  byte* const at = mmap(NULL, PAGE, READ_WRITE, MAP_SHARED, device, 0);
  const byte* const other = mmap(NULL, PAGE, READ_WRITE, MAP_SHARED, device, 0);
  if (at == MAP_FAILED || other == MAP_FAILED) return error_name(errno);
  *at = 9;
  return load(other);
}

RULE(mmap, null_device, "/dev/null, shared",
     BOTH_FREEBSDS("EINVAL", "seed vm_mmap_cdev()", "vm_mmap.c vm_mmap_cdev()"),
     LINUX("ENODEV", "mmap(2)")) {
  return map_path("/dev/null", O_RDWR, PROT_READ, MAP_SHARED);
}

RULE(mmap, null_device_private, "/dev/null, private",
     BOTH_FREEBSDS("EINVAL", "seed vm_mmap_cdev()", "vm_mmap.c vm_mmap_cdev()"),
     LINUX("ENODEV", "mmap(2)")) {
  return map_path("/dev/null", O_RDWR, PROT_READ, MAP_PRIVATE);
}

RULE(mmap, device_shared, "a device with pages, shared: a store, then msync",
     EVERYWHERE("reads 1, the file has it", "seed vm_mmap_cdev()", "mmap(2)", "mmap(2)")) {
  const int device = new_device(2);
  byte* const at = mmap(NULL, PAGE, READ_WRITE, MAP_SHARED, device, 0);
  if (at == MAP_FAILED) return error_name(errno);
  const char* const first = load(at);
  *at = 9;
  require(msync(at, PAGE, MS_SYNC) == 0);
  return say("%s, %s", first, file_state(device, 0, 9));
}

RULE(mmap, device_private, "a device with pages, private",
     BOTH_FREEBSDS("EINVAL", "seed vm_mmap_cdev()", "vm_mmap.c vm_mmap_cdev()"),
     LINUX("maps it", "mmap(2)")) {
  return mapped(mmap(NULL, PAGE, READ_WRITE, MAP_PRIVATE, new_device(2), 0));
}

RULE(mmap, device_private_write_without_the_right,
     "a device with pages, private, open for reading only, with PROT_WRITE",
     BOTH_FREEBSDS("EACCES", "seed vm_mmap_cdev()", "vm_mmap.c vm_mmap_cdev()"),
     LINUX("maps it", "mmap(2)")) {
  const int device = open_again(new_device(2), O_RDONLY);
  require(device >= 0);
  return mapped(mmap(NULL, PAGE, READ_WRITE, MAP_PRIVATE, device, 0));
}

RULE(mmap, device_shared_write_without_the_right,
     "a device with pages, shared, open for reading only, with PROT_WRITE",
     EVERYWHERE("EACCES", "seed mmap()", "mmap(2)", "mmap(2)")) {
  const int device = open_again(new_device(2), O_RDONLY);
  require(device >= 0);
  return mapped(mmap(NULL, PAGE, READ_WRITE, MAP_SHARED, device, 0));
}

RULE(mmap, device_write_later_without_the_right,
     "a device with pages, open for reading only, mapped shared, is to become writable",
     EVERYWHERE("EACCES", "seed mmap()", "mprotect(2)", "mprotect(2)")) {
  const int device = open_again(new_device(2), O_RDONLY);
  require(device >= 0);
  byte* const at = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, device, 0);
  if (at == MAP_FAILED) return error_name(errno);
  return status(mprotect(at, PAGE, READ_WRITE));
}

RULE(mmap, device_without_type,
     "a device with pages, with neither MAP_SHARED nor MAP_PRIVATE: a store, then msync",
     FREEBSD_7("the file has it", "seed vm_mmap_cdev()"), FREEBSD_14("EINVAL", "mmap(2)"),
     LINUX("EINVAL", "mmap(2)")) {
  const int device = new_device(2);
  byte* const at = mmap(NULL, PAGE, READ_WRITE, 0, device, 0);
  if (at == MAP_FAILED) return error_name(errno);
  *at = 9;
  require(msync(at, PAGE, MS_SYNC) == 0);
  return file_state(device, 0, 9);
}
