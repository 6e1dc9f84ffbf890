// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace wherry::tools {

/// One `wherry-guest report` line of the test guest: totals since its start, by vCPU. What they
/// mean is in tests/guests/README.md.
struct GuestReport {
    std::uint64_t sequence = 0;
    std::uint64_t cpu = 0;
    std::uint64_t pages_checked = 0;
    std::uint64_t sweeps = 0;
    std::uint64_t pages_dirtied = 0;
    std::uint64_t errors = 0;
    std::uint64_t tsc_steps_back = 0;
    std::chrono::microseconds at{0}; ///< by the guest's clock, since its start
    /// Largest gap between two turns of its loop since the report before.
    std::chrono::microseconds gap{0};
};

/// nullopt for any other line, and for one that is cut.
std::optional<GuestReport> parse_guest_report(std::string_view line);

/// Reads a serial log that is still being written; only whole lines count.
class GuestLog {
public:
    explicit GuestLog(std::filesystem::path file) : file_{std::move(file)} {}

    /// Takes in what was written since the last call. A file that is not there yet is empty.
    void refresh();

    [[nodiscard]] bool ready() const noexcept { return ready_; }
    [[nodiscard]] const std::vector<GuestReport>& reports() const noexcept { return reports_; }
    /// `wherry-guest error` lines, as they are.
    [[nodiscard]] const std::vector<std::string>& error_lines() const noexcept {
        return error_lines_;
    }

    /// Sums over the last report of each vCPU.
    struct Totals {
        std::uint64_t pages_checked = 0;
        std::uint64_t pages_dirtied = 0;
        std::uint64_t errors = 0;
        std::uint64_t least_sweeps = 0;
    };
    [[nodiscard]] Totals totals() const;
    /// Pages a second, dirtied and checked, by the guest's clock from the report before
    /// `reports()[end]` that is at least `window` older up to that one; of a guest with one vCPU.
    /// Nothing where there is none such at or after `begin`.
    [[nodiscard]] std::optional<double>
    rate(std::size_t begin, std::size_t end, std::chrono::microseconds window) const;
    /// In the log of a destination: the largest gap in the first two reports of any vCPU. The first
    /// may have been made before the hand-over and only written after it.
    [[nodiscard]] std::chrono::microseconds hand_over_gap() const;

private:
    void take(std::string_view line);
    std::filesystem::path file_;
    std::uint64_t offset_ = 0;
    std::string partial_;
    bool ready_ = false;
    std::vector<GuestReport> reports_;
    std::map<std::uint64_t, GuestReport> last_by_cpu_;
    std::vector<std::string> error_lines_;
};

} // namespace wherry::tools
