// Maps devices.
#include "check.h"

#include <fcntl.h>

// arguments[0]: a block device of 64 pages that holds the pattern
static void block(char** arguments) {
  const int device = open(arguments[0], O_RDWR);
  check(device >= 0);
  check_error(EINVAL, mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, device, 0) == MAP_FAILED);
  byte* at = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, device, 0);
  check(at != MAP_FAILED);
  check(is_pattern(at, 64 * PAGE, 0));
  at[5 * PAGE] = 0xee;
  check(msync(at, 64 * PAGE, MS_SYNC) == 0);
  byte read_back = 0;
  check(pread(device, &read_back, 1, (off_t)(5 * PAGE)) == 1);
  check(read_back == 0xee);
  const byte* part = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, device, (off_t)(6 * PAGE));
  check(part != MAP_FAILED);
  check(is_pattern(part, PAGE, 6 * PAGE));
}

// arguments[0]: a framebuffer, arguments[1] and [2]: its width and height in pixels
static uint32_t* map_framebuffer(char** arguments, size_t* width, size_t* height) {
  *width = strtoul(arguments[1], NULL, 10);
  *height = strtoul(arguments[2], NULL, 10);
  const int device = open(arguments[0], O_RDWR);
  check(device >= 0);
  uint32_t* pixels =
      mmap(NULL, *width * *height * 4, PROT_READ | PROT_WRITE, MAP_SHARED, device, 0);
  check(pixels != MAP_FAILED);
  return pixels;
}

// red: column, green: row, blue: their sum
static uint32_t colour(size_t x, size_t y) {
  return (uint32_t)(x << 16 | y << 8 | ((x + y) & 0xff));
}

static void framebuffer(char** arguments) {
  size_t width = 0, height = 0;
  uint32_t* pixels = map_framebuffer(arguments, &width, &height);
  check(is_filled((const byte*)pixels, width * height * 4, 0));
  for (size_t y = 0; y < height; ++y) {
    for (size_t x = 0; x < width; ++x) pixels[y * width + x] = colour(x, y);
  }
}

static void framebuffer_shows(char** arguments) {
  size_t width = 0, height = 0;
  const uint32_t* pixels = map_framebuffer(arguments, &width, &height);
  for (size_t y = 0; y < height; ++y) {
    for (size_t x = 0; x < width; ++x) check(pixels[y * width + x] == colour(x, y));
  }
}

CASES(CASE(block), CASE(framebuffer), CASE(framebuffer_shows))
