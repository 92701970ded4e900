// Drives the Verilated system of a board: clock, reset and serial line, behind a small C interface.
// The language that calls it is never on the path of a clock cycle.

#include <algorithm>
#include <cstdint>
#include <exception>
#include <memory>

#include "Vweft_top.h"
#include "line.h"
#include "rules.h"
#include "verilated.h"
#include "weft_config.h"

namespace {

constexpr unsigned kResetCycles = 4;

class Board {
public:
    explicit Board(const LineParameters& parameters)
        : context_(std::make_unique<VerilatedContext>()), up_(parameters), down_(parameters) {
        top_ = std::make_unique<Vweft_top>(context_.get());
        top_->rx = 1;
        reset();
    }

    ~Board() { top_->final(); }

    void reset() {
        top_->rst = 1;
        run(kResetCycles);
        top_->rst = 0;
        run(1);  // the device's own reset comes a cycle later
    }

    void run(uint64_t cycles) {
        while (cycles--) step();
    }

    // Until so many bytes are there, at most `cycles`.
    void run_until_received(uint64_t count, uint64_t cycles) {
        while (cycles-- && up_.available(cycle_) < count) step();
    }

    void send(const uint8_t* data, uint64_t count) { down_.send(cycle_, data, count); }
    uint64_t available() { return up_.available(cycle_); }
    uint64_t receive(uint8_t* data, uint64_t count) { return up_.receive(cycle_, data, count); }
    LineFaults& faults(bool to_device) { return to_device ? down_.faults() : up_.faults(); }
    uint64_t cycle() const { return cycle_; }
    int rule_line() const { return rule_.line(); }

private:
    void step() {
        top_->rx = down_.level(cycle_);
        top_->clk = 0;
        top_->eval();
        up_.sample(cycle_, top_->tx);
        top_->clk = 1;
        top_->eval();
        ++cycle_;
        rule_.look();
    }

    std::unique_ptr<VerilatedContext> context_;
    std::unique_ptr<Vweft_top> top_;
    LineFromDevice up_;
    LineToDevice down_;
    uint64_t cycle_ = 0;
    BrokenRule rule_;
};

}  // namespace

#define WEFT_API extern "C" __attribute__((visibility("default")))

WEFT_API Board* board_create(const LineParameters* parameters) {
    try {
        return new Board(*parameters);
    } catch (const std::exception&) {
        return nullptr;
    }
}

WEFT_API void board_destroy(Board* b) { delete b; }
WEFT_API void board_reset(Board* b) { b->reset(); }
WEFT_API void board_run(Board* b, uint64_t cycles) { b->run(cycles); }
WEFT_API uint64_t board_cycle(Board* b) { return b->cycle(); }
WEFT_API int board_rule_line(Board* b) { return b->rule_line(); }
WEFT_API uint64_t board_available(Board* b) { return b->available(); }

WEFT_API void board_send(Board* b, const uint8_t* data, uint64_t count) { b->send(data, count); }

WEFT_API void board_run_until_received(Board* b, uint64_t count, uint64_t cycles) {
    b->run_until_received(count, cycles);
}

WEFT_API uint64_t board_receive(Board* b, uint8_t* data, uint64_t count) {
    return b->receive(data, count);
}

WEFT_API void board_fault(Board* b, int to_device, const LineFault* fault) {
    b->faults(to_device).add(*fault);
}

WEFT_API void board_cut(Board* b, int cut) {
    b->faults(true).cut(cut);
    b->faults(false).cut(cut);
}
