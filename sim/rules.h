// Checks that the simulated hardware makes of itself: Verilator calls `vl_stop` where one fails.

#pragma once

#include "verilated.h"

// Line of the Verilog. Each model runs in the thread that calls it.
inline thread_local int stopped_at_line = 0;

void vl_stop(const char*, int line, const char*) VL_MT_UNSAFE {
    if (!stopped_at_line) stopped_at_line = line;
}

// The first failure of one model.
class BrokenRule {
public:
    // To be called after each evaluation of the model.
    void look() {
        if (stopped_at_line) [[unlikely]] {
            if (!line_) line_ = stopped_at_line;
            stopped_at_line = 0;
        }
    }

    // Line of the Verilog, or 0.
    int line() const { return line_; }

private:
    int line_ = 0;
};
