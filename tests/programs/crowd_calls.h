// What a lane of crowd_steps does: each step chooses at random what it is about, checks what comes
// of it, and keeps the model.
#pragma once

#include "crowd_lane.h"

/// Before the first step.
void find_minherit(void);

void map(struct lane* lane);
void unmap(struct lane* lane);
void protect(struct lane* lane);
void advise(struct lane* lane);
void inherit(struct lane* lane);
void wire(struct lane* lane);
void ask_what_is_there(struct lane* lane);
void sync_range(struct lane* lane);
void move(struct lane* lane);
/// The kernel reads what is in swap, and writes to what is.
void copy_through_kernel(struct lane* lane);
/// malloc's heaps are served as well.
void use_heap(struct lane* lane);
void load_some(struct lane* lane);
void store_some(struct lane* lane);
