// An SDRAM chip at the pins of the simulated board. It keeps data as the chip does, and looks at
// every rule of the datasheet: a controller that breaks one is told which, in which bank and cycle.
//
// Times are those of the datasheet, in picoseconds: a controller counts in cycles, and may have
// rounded them in the wrong direction.
//
// A row that is neither opened nor refreshed for longer than a controller may ever leave it loses bits,
// as the cells of a chip do that has no refresh.
//
// Rules that are stricter than a chip's: bursts are never cut short, rows are never closed by
// themselves (auto precharge), and nobody drives the data lines in the cycle between a read and a
// write.

#pragma once

#include <algorithm>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <vector>

struct SdramParameters {
    uint32_t bank_bits, row_bits, column_bits, data_width, byte_masks;
    uint32_t cas_latency, burst, t_mrd, startup_refreshes;
    uint64_t clock, t_rcd, t_rp, t_ras, t_rc, t_rrd, t_wr, t_rfc, t_ras_max, t_refi, startup;
};

class Sdram {
    enum Command { NOP = 0, STOP = 1, READ = 2, WRITE = 3, ACTIVATE = 4, PRECHARGE = 5, REFRESH = 6,
                   MODE = 7 };
    enum Phase { POWER_UP, REFRESHING, RUNNING };
    static constexpr unsigned kMaxBanks = 8;
    static constexpr unsigned kOwed = 8;  // refreshes that may be late, as JEDEC allows
    static constexpr uint32_t kAllBanks = 1 << 10;
    static constexpr int64_t kLongAgo = -(int64_t{1} << 60);

    struct Bank {
        bool open;
        uint32_t row;
        int64_t activated, precharged, written;  // times
    };

    // Words that are on their way; `first` is the chip's clock edge of the first one.
    struct Burst {
        bool write;
        unsigned bank, words;
        uint32_t row, column;
        int64_t first;
    };

public:
    explicit Sdram(const SdramParameters& parameters)
        : p_(parameters), word_bytes_(p_.data_width / 8),
          rows_(uint64_t{1} << (p_.bank_bits + p_.row_bits)),
          row_bytes_((uint64_t{1} << p_.column_bits) * word_bytes_),
          data_(new uint8_t[rows_ * row_bytes_]), charged_(rows_) {
        // As after power-up: anything.
        for (uint64_t i = 0; i < bytes(); ++i) data_[i] = uint8_t(random());
        reset();
    }

    // The power comes back, or the controller has been reset; contents stay.
    void reset() {
        for (Bank& bank : banks_) bank = {false, 0, kLongAgo, kLongAgo, kLongAgo};
        phase_ = POWER_UP;
        precharged_ = false;
        refreshes_ = 0;
        refreshed_ = mode_set_ = activated_ = kLongAgo;
        reading_.words = writing_.words = 0;
        read_end_ = column_end_ = kLongAgo;
        born_ = edge_;
        masked_ = 0;
        driven_ = false;
        std::fill(charged_.begin(), charged_.end(), now());
    }

    // From now on REFRESH does nothing to any row.
    void break_refresh() { deaf_ = true; }

    // A rising edge of the chip's clock, with what the pins are at. `word` is on the data lines.
    void clock(unsigned command, unsigned bank, uint32_t address, unsigned mask, uint32_t word,
               bool drives) {
        if (mask && !p_.byte_masks) fail("data lines", "DQM is not connected, and is to hide bytes");
        if (command != NOP) execute(command, bank, address);
        if (phase_ == RUNNING && now() > deadline_) {
            fail("refresh", "%u of them are late", kOwed + 1);
            deadline_ = now() + period(p_.t_refi);
        }
        if (writing_.words)
            take(mask, word, drives);
        else if (drives)
            fail("data lines", "they are driven, and nothing is written");
        // DQM says two edges ahead which bytes of a word are shown.
        driven_ = reading_.words && edge_ + 1 >= reading_.first;
        if (driven_) show();
        masked_ = mask;
        ++edge_;
    }

    // What the chip drives from its last clock edge on.
    bool driven() const { return driven_; }
    uint32_t word() const { return shown_; }

    uint8_t* contents() {
        for (uint64_t row = 0; row < rows_; ++row) {
            const Bank& bank = banks_[row & ((1u << p_.bank_bits) - 1)];
            if (!bank.open || bank.row != row >> p_.bank_bits) leak(row);
        }
        return data_.get();
    }
    uint64_t bytes() const { return rows_ * row_bytes_; }

    // The first rule that was broken, or an empty string.
    const char* error() const { return error_; }

private:
    int64_t period(uint64_t time) const { return int64_t(time); }
    int64_t now() const { return edge_ * int64_t(p_.clock); }

    uint64_t random() {
        random_ ^= random_ << 13, random_ ^= random_ >> 7, random_ ^= random_ << 17;
        return random_;
    }

    // Of a row that has not been charged for too long, cells lose their ones.
    void leak(uint64_t row) {
        const int64_t longest = period(p_.t_refi) * ((int64_t{1} << p_.row_bits) + 2 * kOwed + 1);
        if (now() - charged_[row] <= longest) return;
        uint8_t* bytes = data_.get() + row * row_bytes_;
        for (uint64_t i = 0; i < row_bytes_; ++i) bytes[i] &= uint8_t(random());
        charged_[row] = now();
    }

    void charge(uint64_t row) {
        leak(row);
        charged_[row] = now();
    }

    void fail(const char* rule, const char* format, ...) {
        if (*error_) return;
        int used = std::snprintf(error_, sizeof error_, "%s, in cycle %lld: ", rule,
                                 static_cast<long long>(edge_));
        va_list arguments;
        va_start(arguments, format);
        std::vsnprintf(error_ + used, sizeof error_ - used, format, arguments);
        va_end(arguments);
    }

    // `least` since `then`.
    void after(const char* rule, const char* command, unsigned bank, int64_t then, uint64_t least) {
        if (now() - then < period(least))
            fail(rule, "%s of bank %u after %.1f ns, must be %.1f ns at least", command, bank,
                 double(now() - then) / 1000, double(least) / 1000);
    }

    void closed(const char* command) {
        for (unsigned b = 0; b < 1u << p_.bank_bits; ++b) {
            if (banks_[b].open) fail("bank state", "%s while bank %u is open", command, b);
            after("tRP", command, b, banks_[b].precharged, p_.t_rp);
            after("tRC", command, b, banks_[b].activated, p_.t_rc);
        }
        if (reading_.words || writing_.words) fail("burst", "%s during a burst", command);
    }

    void execute(unsigned command, unsigned bank, uint32_t address) {
        static const char* const names[] = {"NOP", "BURST TERMINATE", "READ", "WRITE", "ACTIVATE",
                                            "PRECHARGE", "REFRESH", "MODE REGISTER SET"};
        const char* name = names[command];
        after("tRFC", name, bank, refreshed_, p_.t_rfc);
        after("tMRD", name, bank, mode_set_, p_.t_mrd * p_.clock);
        if (phase_ == POWER_UP && now() - born_ * int64_t(p_.clock) < period(p_.startup))
            fail("power-up", "%s before %.0f us", name, double(p_.startup) / 1e6);
        switch (command) {
        case ACTIVATE: activate(bank, address); break;
        case READ: case WRITE: access(name, command == WRITE, bank, address); break;
        case PRECHARGE: precharge(bank, address); break;
        case REFRESH: refresh(); break;
        case MODE: set_mode(address); break;
        default: fail("command", "%s is not expected", name);
        }
    }

    void activate(unsigned bank, uint32_t row) {
        Bank& b = banks_[bank];
        if (phase_ != RUNNING) fail("start-up", "ACTIVATE of bank %u before it is over", bank);
        if (b.open) fail("bank state", "ACTIVATE of bank %u, which is open", bank);
        after("tRP", "ACTIVATE", bank, b.precharged, p_.t_rp);
        after("tRC", "ACTIVATE", bank, b.activated, p_.t_rc);
        after("tRRD", "ACTIVATE", bank, activated_, p_.t_rrd);
        if (row >> p_.row_bits) fail("address", "row %u of bank %u does not exist", row, bank);
        charge(uint64_t(row & ((1u << p_.row_bits) - 1)) << p_.bank_bits | bank);
        b.open = true;
        b.row = row;
        b.activated = activated_ = now();
    }

    void access(const char* name, bool write, unsigned bank, uint32_t address) {
        Bank& b = banks_[bank];
        if (!b.open) fail("bank state", "%s of bank %u, which is closed", name, bank);
        after("tRCD", name, bank, b.activated, p_.t_rcd);
        if (address >> p_.column_bits)
            fail("address", "column %#x of bank %u does not exist", address, bank);
        if (edge_ < column_end_) fail("burst", "%s of bank %u cuts a burst short", name, bank);
        if (write && edge_ <= read_end_)
            fail("data lines", "WRITE of bank %u in less than a cycle after a read", bank);
        column_end_ = edge_ + p_.burst;
        Burst burst{write, bank, p_.burst, b.row, address & ((1u << p_.column_bits) - 1), edge_};
        if (write) {
            writing_ = burst;
        } else {
            // Words of the read before may still be on their way: bursts follow without a gap.
            burst.first += p_.cas_latency;
            read_end_ = burst.first + p_.burst;
            following_ = burst;
            if (!reading_.words) { reading_ = following_; following_.words = 0; }
        }
    }

    void precharge(unsigned bank, uint32_t address) {
        const bool all = address & kAllBanks;
        for (unsigned i = 0; i < 1u << p_.bank_bits; ++i) {
            Bank& b = banks_[i];
            if (!all && i != bank) continue;
            if (b.open) {
                after("tRAS", "PRECHARGE", i, b.activated, p_.t_ras);
                after("tWR", "PRECHARGE", i, b.written, p_.t_wr);
                if (now() - b.activated > period(p_.t_ras_max))
                    fail("tRAS, longest", "PRECHARGE of bank %u after %.1f us", i,
                         double(now() - b.activated) / 1e6);
                // What is shown by then still comes: the last word, CAS latency - 1 cycles later.
                for (const Burst* burst : {&reading_, &following_})
                    if (burst->words && burst->bank == i
                        && edge_ < burst->first - p_.cas_latency + int64_t(p_.burst))
                        fail("burst", "PRECHARGE of bank %u cuts a read short", i);
                if (writing_.words && writing_.bank == i)
                    fail("tWR", "PRECHARGE of bank %u while it is written", i);
            }
            // Its cells have been held while it was open.
            if (b.open) charged_[uint64_t(b.row) << p_.bank_bits | i] = now();
            b.open = false;
            b.precharged = now();
        }
        precharged_ |= all;
    }

    void refresh() {
        closed("REFRESH");
        if (!precharged_) fail("start-up", "REFRESH before all banks are precharged");
        ++refreshes_;
        refreshed_ = now();
        if (!deaf_) {
            for (uint64_t b = 0; b < 1u << p_.bank_bits; ++b) charge(next_ << p_.bank_bits | b);
            next_ = (next_ + 1) & ((1u << p_.row_bits) - 1);
        }
        if (phase_ == POWER_UP) phase_ = REFRESHING;
        // None may be given for a time in which it is not due.
        deadline_ = std::min(deadline_ + period(p_.t_refi),
                             now() + period(p_.t_refi) * (2 * kOwed + 1));
    }

    void set_mode(uint32_t mode) {
        closed("MODE REGISTER SET");
        unsigned burst = 0;
        while (1u << burst < p_.burst) ++burst;
        if (refreshes_ < p_.startup_refreshes)
            fail("start-up", "MODE REGISTER SET after %u refreshes, must be %u", refreshes_,
                 p_.startup_refreshes);
        if (mode != (p_.cas_latency << 4 | burst))
            fail("mode register", "%#x, must be %#x", mode, p_.cas_latency << 4 | burst);
        mode_set_ = now();
        phase_ = RUNNING;
        deadline_ = now() + period(p_.t_refi) * (kOwed + 1);
    }

    uint8_t* cell(const Burst& burst) {
        // Sequential bursts wrap within a block of their length.
        const uint32_t base = burst.column & ~(p_.burst - 1);
        const uint32_t column = base | ((burst.column + p_.burst - burst.words) & (p_.burst - 1));
        const uint64_t row = uint64_t(burst.row) << p_.bank_bits | burst.bank;
        return data_.get() + row * row_bytes_ + column * word_bytes_;
    }

    void take(unsigned mask, uint32_t word, bool drives) {
        if (!drives) fail("data lines", "nobody drives what is written to bank %u", writing_.bank);
        uint8_t* target = cell(writing_);
        for (unsigned i = 0; i < word_bytes_; ++i)
            if (!(mask >> i & 1)) target[i] = uint8_t(word >> 8 * i);
        banks_[writing_.bank].written = now();
        --writing_.words;
    }

    void show() {
        if (masked_) fail("data lines", "DQM hides a word that is read from bank %u", reading_.bank);
        const uint8_t* source = cell(reading_);
        shown_ = 0;
        for (unsigned i = 0; i < word_bytes_; ++i) shown_ |= uint32_t(source[i]) << 8 * i;
        if (!--reading_.words && following_.words) {
            reading_ = following_;
            following_.words = 0;
        }
    }

    SdramParameters p_;
    unsigned word_bytes_;
    uint64_t rows_, row_bytes_;       // rows of all banks, those of the same number side by side
    std::unique_ptr<uint8_t[]> data_;
    std::vector<int64_t> charged_;    // when each of them was
    uint64_t next_ = 0;               // of a bank, the row that REFRESH comes to
    uint64_t random_ = 0x9e3779b97f4a7c15u;
    bool deaf_ = false;
    Bank banks_[kMaxBanks];
    Phase phase_;
    bool precharged_, driven_;
    unsigned refreshes_, masked_;
    int64_t edge_ = 0, born_ = 0;
    int64_t refreshed_, mode_set_, activated_, deadline_ = 0;  // times
    int64_t read_end_, column_end_;                            // edges
    Burst reading_{}, following_{}, writing_{};
    uint32_t shown_ = 0;
    char error_[200] = "";
};
