// A serial line, as the host sees it: bytes with a time, taken apart into bits and put together
// again. Bytes can be lost or damaged on the way, and the line can be cut.
//
// Time is in 1/65536 of a clock cycle, for baud rates that no whole number of cycles makes.

#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <vector>

struct LineParameters {
    uint64_t bit;      // length of a bit, in 1/65536 cycles
    uint64_t latency;  // cycles that a byte takes on the host's side, in each direction
};

// What happens to a byte, by its number in its direction.
struct LineFault {
    uint64_t number;
    uint32_t flip;  // bits to change; all higher bits zero
    uint32_t lose;  // it does not arrive at all
};

constexpr unsigned kByteBits = 10;  // start, eight of data, stop

// Numbers the bytes of a direction and does to them what was asked for.
class LineFaults {
public:
    // `number` counts from the next byte.
    void add(LineFault fault) {
        fault.number += count_;
        faults_.push_back(fault);
    }

    void cut(bool cut) { cut_ = cut; }

    // False if the byte is lost.
    bool pass(uint8_t* byte) {
        bool arrives = !cut_;
        for (const LineFault& fault : faults_)
            if (fault.number == count_) {
                *byte ^= fault.flip;
                arrives &= !fault.lose;
            }
        ++count_;
        return arrives;
    }

private:
    uint64_t count_ = 0;
    bool cut_ = false;
    std::vector<LineFault> faults_;
};

class LineToDevice {
public:
    explicit LineToDevice(const LineParameters& p) : p_(p) {}

    LineFaults& faults() { return faults_; }
    bool idle() const { return queue_.empty() && !left_; }

    void send(uint64_t cycle, const uint8_t* data, uint64_t count) {
        for (uint64_t i = 0; i < count; ++i) {
            uint8_t byte = data[i];
            if (faults_.pass(&byte)) queue_.push_back({cycle + p_.latency, byte});
        }
    }

    // The level of the wire in this cycle. To be called in every cycle.
    bool level(uint64_t cycle) {
        const uint64_t now = cycle << 16;
        while (left_ && now >= next_) {
            shift_ = shift_ >> 1 | 0x200;
            if (--left_) next_ += p_.bit;
        }
        if (!left_ && !queue_.empty() && cycle >= queue_.front().cycle) {
            shift_ = 0x200u | queue_.front().byte << 1;
            queue_.pop_front();
            left_ = kByteBits;
            // Bytes that are there in time follow each other without a gap.
            next_ = (now - next_ < 0x10000 ? next_ : now) + p_.bit;
        }
        return shift_ & 1;
    }

private:
    struct Byte { uint64_t cycle; uint8_t byte; };
    LineParameters p_;
    LineFaults faults_;
    std::deque<Byte> queue_;
    uint32_t shift_ = 0x3ff;
    uint64_t next_ = 0;  // end of the bit on the wire, or of the last byte
    unsigned left_ = 0;  // bits of the byte on the wire that have not ended
};

class LineFromDevice {
public:
    explicit LineFromDevice(const LineParameters& p) : p_(p) {}

    LineFaults& faults() { return faults_; }

    // Bytes that the host can take.
    uint64_t available(uint64_t cycle) {
        while (arrived_ < queue_.size() && queue_[arrived_].cycle <= cycle) ++arrived_;
        return arrived_;
    }

    uint64_t receive(uint64_t cycle, uint8_t* data, uint64_t count) {
        const uint64_t taken = std::min(count, available(cycle));
        for (uint64_t i = 0; i < taken; ++i) {
            data[i] = queue_.front().byte;
            queue_.pop_front();
        }
        arrived_ -= taken;
        return taken;
    }

    // The level of the wire in this cycle. To be called in every cycle.
    void sample(uint64_t cycle, bool level) {
        const uint64_t now = cycle << 16;
        if (!left_) {
            if (level) return;
            left_ = kByteBits;
            next_ = now + p_.bit / 2;
        }
        if (now < next_) return;
        next_ += p_.bit;
        shift_ = shift_ >> 1 | uint32_t(level) << (kByteBits - 1);
        if (--left_) return;
        uint8_t byte = uint8_t(shift_ >> 1);
        if (!(shift_ & 1) && level && faults_.pass(&byte))
            queue_.push_back({cycle + p_.latency, byte});
    }

private:
    struct Byte { uint64_t cycle; uint8_t byte; };
    LineParameters p_;
    LineFaults faults_;
    std::deque<Byte> queue_;
    uint64_t arrived_ = 0;
    uint32_t shift_ = 0;
    uint64_t next_ = 0;  // when the next bit is taken
    unsigned left_ = 0;
};
