// External memory behind the AXI4 port of the simulated accelerator.
//
// Reads take their data when the address is accepted, and writes reach the memory only when they
// are answered. AXI orders nothing in between, so this is the order least kind to an accelerator
// that uses data before the response has come.
//
// Once per clock cycle: `drive` sets the inputs of the port from what happened so far, then the
// model is evaluated, then `sample` notes the transfers that the coming clock edge completes.

#pragma once

#include <algorithm>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "Vweft_top.h"
#include "weft_config.h"

struct MemoryParameters {
    uint64_t bytes;
    uint64_t seed;
    uint32_t latency;      // cycles from address (or last write beat) to response, at least 1
    uint32_t bandwidth;    // beats per cycle, reads and writes together, in 1/65536; 0: no limit
    uint32_t stall;        // probability that a channel pauses in a cycle, in 1/4096
    uint32_t outstanding;  // bursts accepted ahead, for each read identifier and for writes
};

class Memory {
    using Port = Vweft_top;

    static constexpr unsigned kBytes = weft::kDataBytes;
    static constexpr unsigned kIds = 1u << weft::kIdBits;
    static constexpr unsigned kMaxBeats = 256;
    static constexpr unsigned kBurstBytes = kMaxBeats * kBytes;
    static constexpr uint64_t kFullStrobe = ~uint64_t{0} >> (64 - kBytes);
    static constexpr unsigned kBeat = 65536;  // unit of the bandwidth limit
    enum Channel { AR, R, AW, W, B };
    enum Response : uint8_t { OKAY = 0, SLVERR = 2, DECERR = 3 };

    struct Burst {
        uint64_t address, ready_cycle, number;
        unsigned id, beats, next;
        Response response;
        bool may_fail;  // some beats lie in an error range
        std::unique_ptr<uint8_t[]> data{new uint8_t[kBurstBytes]};
        std::unique_ptr<uint64_t[]> strobes{new uint64_t[kMaxBeats]};
    };

    // Bursts in the order of acceptance.
    class Queue {
    public:
        void resize(unsigned size) { bursts_ = std::vector<Burst>(size); clear(); }
        void clear() { head_ = count_ = 0; }
        bool empty() const { return count_ == 0; }
        bool full() const { return count_ == bursts_.size(); }
        unsigned size() const { return count_; }
        Burst& operator[](unsigned i) { return bursts_[wrap(head_ + i)]; }
        Burst& push() { return (*this)[count_++]; }
        void pop() { head_ = wrap(head_ + 1); --count_; }

    private:
        unsigned wrap(size_t i) const { return i < bursts_.size() ? i : i - bursts_.size(); }
        std::vector<Burst> bursts_;
        unsigned head_ = 0, count_ = 0;
    };

    struct ErrorRange { uint64_t start, end; };

    // What a channel held when it was not accepted: it must still hold it in the next cycle.
    struct AddressHeld { bool waiting; uint64_t address; unsigned id, len; };
    struct DataHeld { bool waiting, last; uint64_t strobe; uint8_t data[kBytes]; };

public:
    Memory(Port& port, const MemoryParameters& parameters)
        : port_(port), p_(parameters),
          bytes_(static_cast<uint8_t*>(std::calloc(parameters.bytes, 1)), &std::free) {
        if (!bytes_) throw std::bad_alloc();
        for (Queue& queue : reads_) queue.resize(p_.outstanding);
        writes_.resize(p_.outstanding);
        reset();
    }

    // Forget all transactions; the contents, the errors and the totals stay.
    void reset() {
        for (Queue& queue : reads_) queue.clear();
        writes_.clear();
        filled_ = 0;
        number_ = 0;
        credit_ = 0;
        prefer_write_ = false;
        presented_ = nullptr;
        r_done_ = b_done_ = false;
        ar_held_.waiting = aw_held_.waiting = w_held_.waiting = false;
        random_ = p_.seed * 0x9e3779b97f4a7c15u | 1;
        port_.m_axi_arready = port_.m_axi_awready = port_.m_axi_wready = 0;
        port_.m_axi_rvalid = port_.m_axi_bvalid = 0;
    }

    uint8_t* at(uint64_t address, uint64_t count) {
        if (address > p_.bytes || count > p_.bytes - address) return nullptr;
        return bytes_.get() + address;
    }

    void add_error_range(uint64_t start, uint64_t end) { errors_.push_back({start, end}); }
    void clear_error_ranges() { errors_.clear(); }

    // Answer nothing any more once this many beats have passed.
    void stop_after(uint64_t beats) { beats_left_ = beats; }

    uint64_t read_bytes() const { return read_bytes_; }
    uint64_t write_bytes() const { return write_bytes_; }

    // The first rule of the protocol that was broken, or an empty string.
    const char* protocol_error() const { return protocol_error_; }
    void clear_protocol_error() { protocol_error_[0] = 0; }

    void drive(uint64_t cycle) {
        const bool alive = beats_left_ != 0;
        const unsigned stalls = p_.stall ? draw_stalls() : 0;
        // What a beat leaves over is kept, or fractions of a beat would be lost.
        if (p_.bandwidth) credit_ = std::min(credit_ + p_.bandwidth, kBeat + p_.bandwidth);
        const auto goes = [&](Channel channel) { return alive && !(stalls >> channel & 1); };

        // A full queue of one identifier stops them all: AR has a single ready.
        bool space = true;
        for (Queue& queue : reads_) space &= !queue.full();
        port_.m_axi_arready = space && goes(AR);
        port_.m_axi_awready = !writes_.full() && goes(AW);

        const bool w_wanted = filled_ < writes_.size() && port_.m_axi_wvalid;
        if (r_done_) port_.m_axi_rvalid = 0;
        r_done_ = false;
        if (!port_.m_axi_rvalid && goes(R) && affordable(prefer_write_ && w_wanted))
            present_read(cycle);

        port_.m_axi_wready = filled_ < writes_.size() && goes(W) && affordable(false);

        if (b_done_) port_.m_axi_bvalid = 0;
        b_done_ = false;
        if (!port_.m_axi_bvalid && filled_ && goes(B) && writes_[0].ready_cycle <= cycle)
            present_response();
    }

    void sample(uint64_t cycle) {
        if (port_.m_axi_arvalid) sample_ar(cycle);
        else if (ar_held_.waiting) withdrawn("AR", ar_held_, cycle);
        if (port_.m_axi_awvalid) sample_aw(cycle);
        else if (aw_held_.waiting) withdrawn("AW", aw_held_, cycle);
        if (port_.m_axi_wvalid) sample_w(cycle);
        else if (w_held_.waiting) withdrawn("W", w_held_, cycle);
        if (port_.m_axi_rvalid && port_.m_axi_rready) {
            r_done_ = true;
            read_bytes_ += kBytes;
            beat_passed();
            Queue& queue = reads_[presented_id_];
            if (++presented_->next == presented_->beats) queue.pop();
        }
        if (port_.m_axi_bvalid && port_.m_axi_bready) b_done_ = true;
    }

private:
    // Xorshift; 12 bits of it decide on each channel.
    uint64_t draw() {
        random_ ^= random_ << 13;
        random_ ^= random_ >> 7;
        return random_ ^= random_ << 17;
    }

    unsigned draw_stalls() {
        uint64_t bits = draw();
        unsigned stalls = 0;
        for (unsigned channel = 0; channel < 5; ++channel, bits >>= 12)
            stalls |= unsigned((bits & 4095) < p_.stall) << channel;
        return stalls;
    }

    bool affordable(bool reserved) const {
        return !p_.bandwidth || credit_ >= (reserved ? 2 * kBeat : kBeat);
    }

    void pay(bool write) {
        if (!p_.bandwidth) return;
        credit_ -= kBeat;
        prefer_write_ = !write;
    }

    void beat_passed() { if (beats_left_ != UINT64_MAX && beats_left_) --beats_left_; }

    // The burst that goes next: the oldest; or, where stalls are asked for, any that is first of
    // its identifier, for AXI lets beats of different identifiers come in any order.
    Burst* choose_read(uint64_t cycle) {
        Burst* best = nullptr;
        const unsigned offset = p_.stall ? draw() >> 32 : 0;
        for (unsigned i = 0; i < kIds; ++i) {
            const unsigned id = (i + offset) % kIds;
            if (reads_[id].empty()) continue;
            Burst& burst = reads_[id][0];
            if (p_.stall && burst.ready_cycle > cycle) continue;
            if (!best || (!p_.stall && burst.number < best->number)) best = &burst;
        }
        return best && best->ready_cycle <= cycle ? best : nullptr;
    }

    void present_read(uint64_t cycle) {
        Burst* burst = choose_read(cycle);
        if (!burst) return;
        presented_ = burst;
        presented_id_ = burst->id;
        std::memcpy(&port_.m_axi_rdata, burst->data.get() + burst->next * kBytes, kBytes);
        port_.m_axi_rid = burst->id;
        port_.m_axi_rlast = burst->next == burst->beats - 1;
        port_.m_axi_rresp = burst->may_fail
            ? response(burst->address + burst->next * kBytes, kBytes) : burst->response;
        port_.m_axi_rvalid = 1;
        pay(false);
    }

    void present_response() {
        Burst& burst = writes_[0];
        if (burst.response == OKAY) {
            uint8_t* target = bytes_.get() + burst.address;
            const uint8_t* source = burst.data.get();
            for (unsigned i = 0; i < burst.beats; ++i, target += kBytes, source += kBytes)
                store(target, source, burst.strobes[i]);
        }
        port_.m_axi_bid = burst.id;
        port_.m_axi_bresp = burst.response;
        port_.m_axi_bvalid = 1;
        writes_.pop();
        --filled_;
    }

    static void store(uint8_t* target, const uint8_t* source, uint64_t strobe) {
        if (strobe == kFullStrobe) {
            std::memcpy(target, source, kBytes);
            return;
        }
        for (unsigned i = 0; i < kBytes; ++i)
            if (strobe >> i & 1) target[i] = source[i];
    }

    Response response(uint64_t address, uint64_t count) {
        if (!at(address, count)) return DECERR;
        for (const ErrorRange& range : errors_)
            if (address < range.end && address + count > range.start) return SLVERR;
        return OKAY;
    }

    void sample_ar(uint64_t cycle) {
        hold("AR", ar_held_, port_.m_axi_araddr, port_.m_axi_arid, port_.m_axi_arlen,
             !port_.m_axi_arready, cycle);
        if (!port_.m_axi_arready) return;
        check_burst("AR", port_.m_axi_araddr, port_.m_axi_arlen, port_.m_axi_arsize,
                    port_.m_axi_arburst, cycle);
        Burst& burst = accept(reads_[port_.m_axi_arid % kIds], port_.m_axi_araddr, port_.m_axi_arid,
                              port_.m_axi_arlen);
        const uint64_t count = uint64_t{burst.beats} * kBytes;
        burst.ready_cycle = cycle + p_.latency;
        burst.may_fail = burst.response == SLVERR;
        if (const uint8_t* source = at(burst.address, count))
            std::memcpy(burst.data.get(), source, count);
        else
            std::memset(burst.data.get(), 0, count);
    }

    void sample_aw(uint64_t cycle) {
        hold("AW", aw_held_, port_.m_axi_awaddr, port_.m_axi_awid, port_.m_axi_awlen,
             !port_.m_axi_awready, cycle);
        if (!port_.m_axi_awready) return;
        check_burst("AW", port_.m_axi_awaddr, port_.m_axi_awlen, port_.m_axi_awsize,
                    port_.m_axi_awburst, cycle);
        accept(writes_, port_.m_axi_awaddr, port_.m_axi_awid, port_.m_axi_awlen);
    }

    Burst& accept(Queue& queue, uint64_t address, unsigned id, unsigned len) {
        Burst& burst = queue.push();
        burst.address = address & ~uint64_t{kBytes - 1};
        burst.id = id;
        burst.beats = len + 1;
        burst.next = 0;
        burst.number = number_++;
        burst.response = response(burst.address, uint64_t{burst.beats} * kBytes);
        return burst;
    }

    void sample_w(uint64_t cycle) {
        const uint64_t strobe = port_.m_axi_wstrb;
        const bool last = port_.m_axi_wlast;
        if (w_held_.waiting &&
            (w_held_.last != last || w_held_.strobe != strobe ||
             std::memcmp(w_held_.data, &port_.m_axi_wdata, kBytes)))
            fail(cycle, "W changed before it was accepted");
        w_held_.waiting = !port_.m_axi_wready;
        if (!port_.m_axi_wready) {
            w_held_.last = last;
            w_held_.strobe = strobe;
            std::memcpy(w_held_.data, &port_.m_axi_wdata, kBytes);
            return;
        }
        Burst& burst = writes_[filled_];
        std::memcpy(burst.data.get() + burst.next * kBytes, &port_.m_axi_wdata, kBytes);
        burst.strobes[burst.next] = strobe;
        write_bytes_ += __builtin_popcountll(strobe);
        pay(true);
        beat_passed();
        ++burst.next;
        if (last != (burst.next == burst.beats))
            fail(cycle, "WLAST is %d in beat %u of a burst of %u", last, burst.next, burst.beats);
        if (burst.next == burst.beats) {
            burst.ready_cycle = cycle + p_.latency;
            ++filled_;
        }
    }

    void check_burst(const char* channel, uint64_t address, unsigned len, unsigned size,
                     unsigned burst, uint64_t cycle) {
        if (burst != weft::kBurstIncr)
            fail(cycle, "%s asks for burst type %u, only INCR is allowed", channel, burst);
        if (1u << size != kBytes)
            fail(cycle, "%s asks for beats of %u bytes on a port of %u", channel, 1u << size,
                 kBytes);
        const uint64_t end = (address & ~uint64_t{kBytes - 1}) + uint64_t{len} * kBytes;
        if (address >> 12 != end >> 12)
            fail(cycle, "%s burst of %u beats at %#llx crosses a 4 KiB boundary", channel, len + 1,
                 static_cast<unsigned long long>(address));
    }

    void hold(const char* channel, AddressHeld& held, uint64_t address, unsigned id, unsigned len,
              bool waiting, uint64_t cycle) {
        if (held.waiting && (held.address != address || held.id != id || held.len != len))
            fail(cycle, "%s changed before it was accepted", channel);
        held = {waiting, address, id, len};
    }

    template <typename Held>
    void withdrawn(const char* channel, Held& held, uint64_t cycle) {
        held.waiting = false;
        fail(cycle, "%s was withdrawn before it was accepted", channel);
    }

    __attribute__((format(printf, 3, 4), cold, noinline))
    void fail(uint64_t cycle, const char* format, ...) {
        if (protocol_error_[0]) return;
        const int length = std::snprintf(protocol_error_, sizeof protocol_error_, "cycle %llu: ",
                                         static_cast<unsigned long long>(cycle));
        va_list arguments;
        va_start(arguments, format);
        std::vsnprintf(protocol_error_ + length, sizeof protocol_error_ - length, format,
                       arguments);
        va_end(arguments);
    }

    Port& port_;
    const MemoryParameters p_;
    const std::unique_ptr<uint8_t, decltype(&std::free)> bytes_;
    std::vector<ErrorRange> errors_;
    Queue reads_[kIds];
    Queue writes_;      // accepted, not answered
    unsigned filled_;   // of these, from the oldest on, have all their data
    Burst* presented_;  // owner of the beat on the R channel
    unsigned presented_id_ = 0;
    uint64_t number_, random_;
    uint32_t credit_;
    bool prefer_write_, r_done_, b_done_;
    AddressHeld ar_held_, aw_held_;
    DataHeld w_held_;
    uint64_t beats_left_ = UINT64_MAX;
    uint64_t read_bytes_ = 0, write_bytes_ = 0;
    char protocol_error_[256] = "";
};
