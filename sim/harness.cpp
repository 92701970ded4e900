// Drives the Verilated accelerator: clock, control port, interrupt, events and trace, behind a
// small C interface. The language that calls it is never on the path of a clock cycle.

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <memory>
#include <vector>

#include "memory.h"
#include "rules.h"
#include "verilated.h"
#if VM_TRACE
#include "trace.h"
#else
struct FstFunctions;
#endif

namespace {

enum Status : int { kIrq = 0, kTimeout = 1, kProtocol = 2, kRule = 3 };

// Cycles in which the control port must answer.
constexpr unsigned kLiteLimit = 10000;

struct Event {
    uint64_t cycle;
    uint16_t index;
    uint8_t engine, done;
    uint32_t unused;
};
static_assert(sizeof(Event) == 16);

class Harness {
public:
    explicit Harness(const MemoryParameters& parameters)
        : context_(std::make_unique<VerilatedContext>()) {
        context_->traceEverOn(VM_TRACE);
        top_ = std::make_unique<Vweft_top>(context_.get());
        memory_ = std::make_unique<Memory>(*top_, parameters);
        lite_random_ = parameters.stall ? parameters.seed | 1 : 0;
    }

    ~Harness() {
        trace_stop();
        top_->final();
    }

    void reset() {
        top_->s_axi_arvalid = top_->s_axi_awvalid = top_->s_axi_wvalid = 0;
        top_->s_axi_rready = top_->s_axi_bready = 0;
        top_->rst = 1;
        memory_->reset();
        for (int i = 0; i < 4; ++i) {
            settle();
            edge();
        }
        top_->rst = 0;
        // The device's own reset comes a cycle later.
        settle();
        edge();
        lite_error_[0] = 0;
    }

    int run_until_irq(uint64_t max_cycles) {
        const uint64_t end = max_cycles > UINT64_MAX - cycle_ ? UINT64_MAX : cycle_ + max_cycles;
        while (!top_->irq) {
            if (const int broken = broken_rule()) return broken;
            if (cycle_ >= end) return kTimeout;
            step();
        }
        const int broken = broken_rule();
        return broken ? broken : kIrq;
    }

    int run(uint64_t cycles) {
        while (cycles--) step();
        return broken_rule();
    }

    int reg_write(uint32_t address, uint32_t data) {
        Vweft_top& top = *top_;
        unsigned aw_delay = lite_delay(), w_delay = lite_delay(), b_delay = lite_delay();
        bool aw_done = false, w_done = false;
        top.s_axi_awaddr = address;
        top.s_axi_awprot = 0;
        top.s_axi_wdata = data;
        top.s_axi_wstrb = 15;
        for (unsigned i = 0; i < kLiteLimit; ++i) {
            top.s_axi_awvalid = !aw_done && i >= aw_delay;
            top.s_axi_wvalid = !w_done && i >= w_delay;
            top.s_axi_bready = i >= b_delay;
            memory_->drive(cycle_);
            settle();
            aw_done |= top.s_axi_awvalid && top.s_axi_awready;
            w_done |= top.s_axi_wvalid && top.s_axi_wready;
            const bool b_done = top.s_axi_bvalid && top.s_axi_bready;
            const unsigned response = top.s_axi_bresp;
            observe();
            edge();
            if (b_done) {
                top.s_axi_awvalid = top.s_axi_wvalid = top.s_axi_bready = 0;
                if (!aw_done || !w_done) return lite_fail("write", address, "answered too early");
                return response ? lite_fail("write", address, "refused") : 0;
            }
        }
        return lite_fail("write", address, "not answered");
    }

    int reg_read(uint32_t address, uint32_t* data) {
        Vweft_top& top = *top_;
        unsigned ar_delay = lite_delay(), r_delay = lite_delay();
        bool ar_done = false;
        top.s_axi_araddr = address;
        top.s_axi_arprot = 0;
        for (unsigned i = 0; i < kLiteLimit; ++i) {
            top.s_axi_arvalid = !ar_done && i >= ar_delay;
            top.s_axi_rready = i >= r_delay;
            memory_->drive(cycle_);
            settle();
            ar_done |= top.s_axi_arvalid && top.s_axi_arready;
            const bool r_done = top.s_axi_rvalid && top.s_axi_rready;
            const unsigned response = top.s_axi_rresp;
            if (r_done) *data = top.s_axi_rdata;
            observe();
            edge();
            if (r_done) {
                top.s_axi_arvalid = top.s_axi_rready = 0;
                if (!ar_done) return lite_fail("read", address, "answered too early");
                return response ? lite_fail("read", address, "refused") : 0;
            }
        }
        return lite_fail("read", address, "not answered");
    }

    Memory& memory() { return *memory_; }
    uint64_t cycle() const { return cycle_; }
    std::vector<Event>& events() { return events_; }

    // What the hardware did wrong on its buses, or by its own checks; 0 if nothing.
    int broken_rule() const {
        return rule_.line() ? kRule : *protocol_error() ? kProtocol : 0;
    }

    int rule_line() const { return rule_.line(); }

    const char* protocol_error() const {
        return *lite_error_ ? lite_error_ : memory_->protocol_error();
    }

    // Records to an FST file if there are functions for it, else to a VCD file. Gives an error
    // number, or 0.
    int trace_start(const char* path, const FstFunctions* fst) {
#if VM_TRACE
        trace_stop();
        if (fst) file_ = std::make_unique<FstFile>(*fst);
        else file_ = std::make_unique<TraceFile>();
        trace_ = std::make_unique<VerilatedVcdC>(file_.get());
        top_->trace(trace_.get(), 99);
        trace_->open(path);
        if (trace_->isOpen()) return 0;
        trace_.reset();
        return file_->error();
#else
        (void)path, (void)fst;
        return ENOTSUP;
#endif
    }

    // The error number of what was lost of the trace, or 0.
    int trace_error() const {
#if VM_TRACE
        if (file_) return file_->error();
#endif
        return 0;
    }

    int trace_stop() {
#if VM_TRACE
        if (trace_) trace_->close();
        trace_.reset();
        const int error = trace_error();
        file_.reset();
        return error;
#else
        return 0;
#endif
    }

private:
    void step() {
        memory_->drive(cycle_);
        settle();
        observe();
        edge();
    }

    // Let outputs that hang on inputs follow them; what they are now, the coming edge sees.
    void settle() {
        top_->clk = 0;
        top_->eval();
        dump(0);
    }

    void edge() {
        top_->clk = 1;
        top_->eval();
        dump(1);
        ++cycle_;
        rule_.look();
    }

    void observe() {
        memory_->sample(cycle_);
        if (top_->event_start | top_->event_done) [[unlikely]] {
            log_events(top_->event_start, top_->event_start_index, 0);
            log_events(top_->event_done, top_->event_done_index, 1);
        }
    }

    void log_events(unsigned engines, uint64_t indices, uint8_t done) {
        for (uint8_t engine = 0; engine < weft::kEngines; ++engine)
            if (engines >> engine & 1)
                events_.push_back({cycle_, uint16_t(indices >> 16 * engine), engine, done, 0});
    }

    // The halves of a register access may come apart by some cycles.
    unsigned lite_delay() {
        if (!lite_random_) return 0;
        lite_random_ ^= lite_random_ << 13;
        lite_random_ ^= lite_random_ >> 7;
        lite_random_ ^= lite_random_ << 17;
        return lite_random_ >> 60 & 3;
    }

    int lite_fail(const char* what, uint32_t address, const char* how) {
        std::snprintf(lite_error_, sizeof lite_error_, "cycle %llu: %s of register %#x was %s",
                      static_cast<unsigned long long>(cycle_), what, address, how);
        return kProtocol;
    }

    void dump(unsigned half) {
#if VM_TRACE
        if (trace_) trace_->dump(2 * cycle_ + half);
#else
        (void)half;
#endif
    }

    std::unique_ptr<VerilatedContext> context_;
    std::unique_ptr<Vweft_top> top_;
    std::unique_ptr<Memory> memory_;
#if VM_TRACE
    std::unique_ptr<TraceFile> file_;
    std::unique_ptr<VerilatedVcdC> trace_;
#endif
    uint64_t cycle_ = 0;
    BrokenRule rule_;
    uint64_t lite_random_;
    std::vector<Event> events_;
    char lite_error_[128] = "";
};

}  // namespace

#define WEFT_API extern "C" __attribute__((visibility("default")))

WEFT_API Harness* weft_create(const MemoryParameters* parameters) {
    try {
        auto harness = std::make_unique<Harness>(*parameters);
        harness->reset();
        return harness.release();
    } catch (const std::exception&) {
        return nullptr;
    }
}

WEFT_API void weft_destroy(Harness* h) { delete h; }
WEFT_API void weft_reset(Harness* h) { h->reset(); }
WEFT_API int weft_run_until_irq(Harness* h, uint64_t cycles) { return h->run_until_irq(cycles); }
WEFT_API int weft_run(Harness* h, uint64_t cycles) { return h->run(cycles); }
WEFT_API uint64_t weft_cycle(Harness* h) { return h->cycle(); }
WEFT_API const char* weft_protocol_error(Harness* h) { return h->protocol_error(); }

WEFT_API int weft_rule_line(Harness* h) { return h->rule_line(); }

WEFT_API int weft_reg_write(Harness* h, uint32_t address, uint32_t value) {
    return h->reg_write(address, value);
}

WEFT_API int weft_reg_read(Harness* h, uint32_t address, uint32_t* value) {
    return h->reg_read(address, value);
}

// The memory itself, or null where it does not hold all of these bytes.
WEFT_API uint8_t* weft_memory(Harness* h, uint64_t address, uint64_t count) {
    return h->memory().at(address, count);
}

WEFT_API uint64_t weft_read_bytes(Harness* h) { return h->memory().read_bytes(); }
WEFT_API uint64_t weft_write_bytes(Harness* h) { return h->memory().write_bytes(); }

WEFT_API void weft_add_error_range(Harness* h, uint64_t start, uint64_t end) {
    h->memory().add_error_range(start, end);
}

WEFT_API void weft_clear_error_ranges(Harness* h) { h->memory().clear_error_ranges(); }
WEFT_API void weft_stop_memory(Harness* h, uint64_t beats) { h->memory().stop_after(beats); }

WEFT_API uint64_t weft_event_count(Harness* h) { return h->events().size(); }
WEFT_API const void* weft_events(Harness* h) { return h->events().data(); }
WEFT_API void weft_clear_events(Harness* h) { h->events().clear(); }

WEFT_API int weft_trace_start(Harness* h, const char* path, const FstFunctions* fst) {
    return h->trace_start(path, fst);
}

WEFT_API int weft_trace_error(Harness* h) { return h->trace_error(); }
WEFT_API int weft_trace_stop(Harness* h) { return h->trace_stop(); }
