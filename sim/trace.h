// Where recorded signals go: Verilator writes them as VCD text, which ends up in a file as it is, or
// is turned into FST on the fly, so that the text itself never lies on a disk.

#pragma once

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include <sys/statvfs.h>

#include "verilated_vcd_c.h"

// Functions of libfst, which the Python package pylibfst carries; the caller looks them up.
struct FstFunctions {
    void* (*create)(const char* path, int compress_hierarchy);
    void (*close)(void* writer);
    void (*set_pack_type)(void* writer, int type);
    int (*set_timescale)(void* writer, const char* text);
    void (*set_scope)(void* writer, int type, const char* name, const char* component);
    void (*set_upscope)(void* writer);
    uint32_t (*create_var)(void* writer, int type, int direction, uint32_t bits, const char* name,
                           uint32_t alias);
    void (*emit_time)(void* writer, uint64_t time);
    void (*emit_value)(void* writer, uint32_t handle, const void* value);
};

// VCD text. A failure is kept and the rest is thrown away: Verilator would end the process.
class TraceFile : public VerilatedVcdFile {
public:
    // Error number of the first failure, or 0.
    int error() const { return error_; }

    bool open(const std::string& path) override {
        errno = 0;
        if (!VerilatedVcdFile::open(path)) fail(errno);
        return !error_;
    }

    ssize_t write(const char* text, ssize_t count) override {
        if (error_) return count;
        const ssize_t written = VerilatedVcdFile::write(text, count);
        if (written >= 0 || errno == EINTR || errno == EAGAIN) return written;
        fail(errno);
        return count;
    }

protected:
    void fail(int error) { error_ = error ? error : EIO; }

private:
    int error_ = 0;
};

// FST, from VCD text in the form in which Verilator writes it: a declaration or a change in each
// line, values as wide as their signal.
class FstFile final : public TraceFile {
public:
    explicit FstFile(const FstFunctions& fst) : fst_(fst) {}
    ~FstFile() override { close(); }

    bool open(const std::string& path) override {
        const size_t slash = path.rfind('/');
        folder_ = slash == path.npos ? "." : path.substr(0, slash + 1);
        if (is_full()) {
            fail(ENOSPC);
            return false;
        }
        errno = 0;
        writer_ = fst_.create(path.c_str(), 1);
        if (!writer_) fail(errno);
        else fst_.set_pack_type(writer_, kLz4);
        return writer_;
    }

    void close() override {
        if (writer_) fst_.close(writer_);
        writer_ = nullptr;
    }

    ssize_t write(const char* text, ssize_t count) override {
        if (!error() && is_full()) fail(ENOSPC);
        const char* const end = text + count;
        while (text != end) {
            const auto* newline = static_cast<const char*>(std::memchr(text, '\n', end - text));
            if (!newline) {
                start_.append(text, end);
                break;
            }
            if (start_.empty()) {
                line({text, newline});
            } else {
                start_.append(text, newline);
                line(start_);
                start_.clear();
            }
            text = newline + 1;
        }
        return count;
    }

private:
    // Of libfst's enumerations.
    static constexpr int kLz4 = 2, kModule = 0, kWire = 16, kImplicit = 0;

    // More than libfst writes at once. It takes a write that fails for done, or ends the process.
    static constexpr uint64_t kSpareBytes = 256 << 20;

    struct Signal {
        uint32_t handle, bits;
    };

    // Whether space runs out where the file is, or where libfst has its temporary files.
    bool is_full() const {
        for (const char* folder : {folder_.c_str(), P_tmpdir}) {
            struct statvfs space;
            if (!statvfs(folder, &space) && space.f_bavail * space.f_frsize < kSpareBytes)
                return true;
        }
        return false;
    }

    void line(std::string_view text) {
        if (text.empty() || error()) return;
        if (text[0] == 'b') {
            const size_t space = text.find(' ');
            if (space == text.npos) return fail(EPROTO);
            change(text.substr(1, space - 1), text.substr(space + 1));
        } else if (text[0] == '0' || text[0] == '1') {
            change(text.substr(0, 1), text.substr(1));
        } else if (text[0] == '#') {
            const uint64_t time = std::strtoull(text.data() + 1, nullptr, 10);
            // A flush of Verilator's buffer may repeat a time.
            if (time != time_) fst_.emit_time(writer_, time);
            time_ = time;
        } else {
            declare(text);
        }
    }

    void change(std::string_view value, std::string_view code) {
        const size_t i = index(code);
        if (i >= signals_.size() || signals_[i].bits != value.size()) return fail(EPROTO);
        fst_.emit_value(writer_, signals_[i].handle, value.data());
    }

    void declare(std::string_view text) {
        const std::string_view keyword = word(text);
        if (keyword == "$scope") {
            word(text);
            fst_.set_scope(writer_, kModule, std::string(word(text)).c_str(), nullptr);
        } else if (keyword == "$upscope") {
            fst_.set_upscope(writer_);
        } else if (keyword == "$timescale") {
            fst_.set_timescale(writer_, std::string(word(text)).c_str());
        } else if (keyword == "$var") {
            word(text);
            const auto bits = uint32_t(std::strtoul(word(text).data(), nullptr, 10));
            const size_t i = index(word(text));
            const size_t end = text.rfind(" $end");
            if (end == text.npos || !bits) return fail(EPROTO);
            if (i >= signals_.size()) signals_.resize(i + 1);
            // A code that is declared again is another name of the same signal.
            const uint32_t handle = fst_.create_var(
                writer_, kWire, kImplicit, bits, std::string(text.substr(1, end - 1)).c_str(),
                signals_[i].handle);
            if (!signals_[i].handle) signals_[i] = {handle, bits};
        }
    }

    // Takes the next word from the front of a text.
    static std::string_view word(std::string_view& text) {
        text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
        const std::string_view found = text.substr(0, text.find(' '));
        text.remove_prefix(found.size());
        return found;
    }

    // Codes count in printable characters, the lowest digit first.
    static size_t index(std::string_view code) {
        size_t result = 0, weight = 1;
        for (const char digit : code) {
            result += weight * size_t(digit - '!' + 1);
            weight *= 94;
        }
        return result;
    }

    const FstFunctions fst_;
    std::string folder_;
    void* writer_ = nullptr;
    uint64_t time_ = UINT64_MAX;
    std::vector<Signal> signals_;
    std::string start_;  // of a line that is not complete yet
};
