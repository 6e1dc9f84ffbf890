// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace wherry::formats {

/// What went wrong, as policy sees it. The numbers cross the wire and stand in scripts: they are
/// never reused or changed. Only the code is ever tested; texts are for people.
enum class ErrorCode : std::uint16_t {
    internal = 1,         ///< a bug of ours or of a library
    invalid_argument = 2, ///< the user asked for something that cannot be
    not_found = 3,
    already_exists = 4,
    wrong_state = 5, ///< not possible in the present state of the VM or job
    permission = 6,
    out_of_resources = 7, ///< memory, disk, descriptors
    io = 8,               ///< a file, a device or the kernel refused
    unsupported = 9,      ///< this host, backend or build cannot do it
    guest = 10,           ///< the guest did something no machine can go on from

    unreachable = 20,      ///< no connection could be made
    connection_lost = 21,  ///< it was there and broke, or ended in the middle
    timed_out = 22,        ///< the peer did not answer in time
    authentication = 23,   ///< TLS: certificate, name or key not acceptable
    protocol = 24,         ///< the peer's bytes break the protocol
    version_mismatch = 25, ///< no protocol version in common
    corrupted = 26,        ///< a checksum does not match

    incompatible = 40, ///< plan: this VM cannot live on the destination
    refused = 41,      ///< the peer said no for a reason of its own
    cancelled = 42,
    in_doubt = 43, ///< cannot know which side owns the VM
};

std::string_view name_of(ErrorCode code) noexcept;
/// The code for a number from outside; unknown numbers become `internal`.
ErrorCode error_code_from(std::uint32_t number) noexcept;

/// Where a migration stood when an error arose. Numbers cross the wire.
enum class Phase : std::uint8_t {
    none = 0,
    connect = 1,
    plan = 2,
    precopy = 3,
    stop_and_copy = 4,
    state = 5,
    handover = 6,
    done = 7,
    postcopy = 8,
};
std::string_view name_of(Phase phase) noexcept;
Phase phase_from(std::uint32_t number) noexcept;

/// Which host an error arose on.
enum class Side : std::uint8_t { local = 0, source = 1, destination = 2 };
std::string_view name_of(Side side) noexcept;
Side side_from(std::uint32_t number) noexcept;

struct SourceLine {
    const char* file;
    int line;
    static constexpr SourceLine
    here(const char* at_file = __builtin_FILE(), int at_line = __builtin_LINE()) {
        return {.file = at_file, .line = at_line};
    }
};

/// A failure as a value: a stable code, one sentence for people, and where in the protocol and in
/// our sources it arose. Text is built from the outside in by `during`.
class [[nodiscard]] Error {
public:
    Error(ErrorCode code, std::string text, SourceLine origin = SourceLine::here());

    /// "activity: text". Leaves code and origin as they are.
    [[nodiscard]] Error during(std::string_view activity) &&;
    /// Sets phase and side where they are not yet set (the innermost knows best).
    [[nodiscard]] Error at(Phase phase, Side side) &&;

    [[nodiscard]] ErrorCode code() const noexcept { return code_; }
    [[nodiscard]] const std::string& text() const noexcept { return text_; }
    [[nodiscard]] Phase phase() const noexcept { return phase_; }
    [[nodiscard]] Side side() const noexcept { return side_; }
    [[nodiscard]] SourceLine origin() const noexcept { return origin_; }

private:
    ErrorCode code_;
    Phase phase_ = Phase::none;
    Side side_ = Side::local;
    std::string text_;
    SourceLine origin_;
};

/// The Error of a failed system call: "what: strerror(number)", the code chosen from `number`.
Error system_error(int number, std::string_view what, SourceLine origin = SourceLine::here());

/// Aborts with the rule and its place.
[[noreturn]] void abort_for_broken(std::string_view rule, SourceLine origin);
/// Aborts with the rule and its place when a rule of our own code is broken. Not for input.
inline void invariant(bool holds, std::string_view rule, SourceLine origin = SourceLine::here()) {
    if (!holds) [[unlikely]] { // inline, for it stands in the innermost loops
        abort_for_broken(rule, origin);
    }
}

} // namespace wherry::formats
