// Drives the Verilated system of a board: clock, reset, serial line and, if it has one, the SDRAM
// chip beside it, behind a small C interface.
// The language that calls it is never on the path of a clock cycle.

#include <algorithm>
#include <cstdint>
#include <exception>
#include <memory>

#include "Vweft_top.h"
#include "line.h"
#include "rules.h"
#include "sdram.h"
#include "verilated.h"
#include "weft_config.h"

namespace {

constexpr unsigned kResetCycles = 4;

// The pins between a controller and its chip: a register in each of them, both ways. The chip's
// clock rises within a cycle, so it sees what the controller had put out in the cycle before.
template <class Top>
class Pins {
    static constexpr bool kHasChip = requires(Top& top) { top.sdram_command; };

public:
    void attach(const SdramParameters& parameters) {
        if constexpr (kHasChip) chip_ = std::make_unique<Sdram>(parameters);
    }

    void drive(Top& top) {
        if constexpr (kHasChip) top.sdram_dq_i = decltype(top.sdram_dq_i)(taken_);
    }

    void sample(const Top& top) {
        if constexpr (kHasChip) {
            chip_->clock(out_.command, out_.bank, out_.address, out_.mask, out_.word, out_.drives);
            taken_ = shown_;
            shown_ = chip_->driven() ? chip_->word() : kNothing;
            out_ = {top.sdram_command, top.sdram_bank, top.sdram_address, top.sdram_mask,
                    top.sdram_dq_o, bool(top.sdram_dq_oe)};
        }
    }

    void reset() {
        if (chip_) chip_->reset();
        out_ = {};
    }

    Sdram* chip() { return chip_.get(); }

private:
    static constexpr uint32_t kNothing = 0x5a5a5a5a;  // what a line reads as that nobody drives
    struct Out { unsigned command, bank; uint32_t address; unsigned mask; uint32_t word;
                 bool drives; };
    std::unique_ptr<Sdram> chip_;
    Out out_{};
    uint32_t shown_ = kNothing, taken_ = kNothing;
};

class Board {
public:
    Board(const LineParameters& parameters, const SdramParameters* chip)
        : context_(std::make_unique<VerilatedContext>()), up_(parameters), down_(parameters) {
        if (chip) pins_.attach(*chip);
        top_ = std::make_unique<Vweft_top>(context_.get());
        top_->rx = 1;
        reset();
    }

    ~Board() { top_->final(); }

    void reset() {
        top_->rst = 1;
        pins_.reset();
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
    Sdram* chip() { return pins_.chip(); }
    uint64_t cycle() const { return cycle_; }
    int rule_line() const { return rule_.line(); }

private:
    void step() {
        top_->rx = down_.level(cycle_);
        pins_.drive(*top_);
        top_->clk = 0;
        top_->eval();
        up_.sample(cycle_, top_->tx);
        pins_.sample(*top_);
        top_->clk = 1;
        top_->eval();
        ++cycle_;
        rule_.look();
    }

    std::unique_ptr<VerilatedContext> context_;
    std::unique_ptr<Vweft_top> top_;
    LineFromDevice up_;
    LineToDevice down_;
    Pins<Vweft_top> pins_;
    uint64_t cycle_ = 0;
    BrokenRule rule_;
};

}  // namespace

#define WEFT_API extern "C" __attribute__((visibility("default")))

// Without a chip beside it if `chip` is null.
WEFT_API Board* board_create(const LineParameters* parameters, const SdramParameters* chip) {
    try {
        return new Board(*parameters, chip);
    } catch (const std::exception&) {
        return nullptr;
    }
}

WEFT_API void board_destroy(Board* b) { delete b; }
WEFT_API void board_reset(Board* b) { b->reset(); }
WEFT_API void board_run(Board* b, uint64_t cycles) { b->run(cycles); }
WEFT_API uint64_t board_cycle(Board* b) { return b->cycle(); }
WEFT_API int board_rule_line(Board* b) { return b->rule_line(); }

// The rule of its chip that the board broke, or an empty string.
WEFT_API const char* board_chip_error(Board* b) { return b->chip() ? b->chip()->error() : ""; }

// The contents of its chip from an address on, or null.
WEFT_API uint8_t* board_chip_bytes(Board* b, uint64_t address, uint64_t count) {
    Sdram* chip = b->chip();
    if (!chip || address > chip->bytes() || count > chip->bytes() - address) return nullptr;
    return chip->contents() + address;
}

// Its refresh does nothing any more; false if there is no chip.
WEFT_API int board_break_refresh(Board* b) {
    if (b->chip()) b->chip()->break_refresh();
    return b->chip() != nullptr;
}

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
