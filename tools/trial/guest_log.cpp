// SPDX-License-Identifier: Apache-2.0
#include "tools/trial/guest_log.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>

namespace wherry::tools {

namespace {

constexpr std::string_view report_start = "wherry-guest report ";
constexpr std::string_view error_start = "wherry-guest error ";
constexpr std::string_view ready_start = "wherry-guest ready ";

/// The number behind "key=", bounded by blanks.
std::optional<std::uint64_t> number_of(std::string_view line, std::string_view key) {
    std::size_t at = 0;
    while ((at = line.find(key, at)) != std::string_view::npos) {
        const bool whole_key = line[at - 1] == ' ' && line.substr(at + key.size(), 1) == "=";
        at += key.size();
        if (!whole_key) {
            continue;
        }
        std::uint64_t value = 0;
        const auto text = line.substr(at + 1);
        const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
        if (problem == std::errc{}) {
            return value;
        }
        return std::nullopt;
    }
    return std::nullopt;
}

} // namespace

std::optional<GuestReport> parse_guest_report(std::string_view line) {
    if (!line.starts_with(report_start)) {
        return std::nullopt;
    }
    GuestReport report;
    std::uint64_t gap_us = 0;
    std::uint64_t t_us = 0;
    const std::array<std::pair<std::string_view, std::uint64_t*>, 9> fields{
        {{"n", &report.sequence},
         {"cpu", &report.cpu},
         {"checked", &report.pages_checked},
         {"sweeps", &report.sweeps},
         {"dirtied", &report.pages_dirtied},
         {"errors", &report.errors},
         {"gap_us", &gap_us},
         {"t_us", &t_us},
         {"tsc_back", &report.tsc_steps_back}}};
    for (const auto& [key, into] : fields) {
        const auto value = number_of(line, key);
        if (!value) {
            return std::nullopt;
        }
        *into = *value;
    }
    report.gap = std::chrono::microseconds{gap_us};
    report.at = std::chrono::microseconds{t_us};
    return report;
}

void GuestLog::refresh() {
    std::ifstream file{file_, std::ios::binary};
    if (!file.seekg(static_cast<std::streamoff>(offset_))) {
        return;
    }
    std::array<char, 65536> block{};
    while (file.read(block.data(), block.size()), file.gcount() > 0) {
        offset_ += static_cast<std::uint64_t>(file.gcount());
        partial_.append(block.data(), static_cast<std::size_t>(file.gcount()));
    }
    std::size_t start = 0;
    for (auto end = partial_.find('\n'); end != std::string::npos;
         end = partial_.find('\n', start)) {
        auto line = std::string_view{partial_}.substr(start, end - start);
        if (line.ends_with('\r')) {
            line.remove_suffix(1);
        }
        take(line);
        start = end + 1;
    }
    partial_.erase(0, start);
}

void GuestLog::take(std::string_view line) {
    if (line.starts_with(ready_start)) {
        ready_ = true;
    } else if (line.starts_with(error_start)) {
        error_lines_.emplace_back(line);
    } else if (const auto report = parse_guest_report(line)) {
        reports_.push_back(*report);
        last_by_cpu_[report->cpu] = *report;
    }
}

GuestLog::Totals GuestLog::totals() const {
    Totals totals;
    bool first = true;
    for (const auto& [cpu, report] : last_by_cpu_) {
        totals.pages_checked += report.pages_checked;
        totals.pages_dirtied += report.pages_dirtied;
        totals.errors += report.errors + report.tsc_steps_back;
        totals.least_sweeps = first ? report.sweeps : std::min(totals.least_sweeps, report.sweeps);
        first = false;
    }
    return totals;
}

std::optional<double>
GuestLog::rate(std::size_t begin, std::size_t end, std::chrono::microseconds window) const {
    const auto pages = [](const GuestReport& report) {
        return report.pages_checked + report.pages_dirtied;
    };
    const GuestReport& last = reports_[end];
    for (std::size_t at = end; at-- > begin;) {
        const GuestReport& first = reports_[at];
        if (last.at - first.at >= window) {
            const std::chrono::duration<double> took = last.at - first.at;
            return static_cast<double>(pages(last) - pages(first)) / took.count();
        }
    }
    return std::nullopt;
}

std::chrono::microseconds GuestLog::hand_over_gap() const {
    constexpr int spanning = 2;
    std::map<std::uint64_t, int> seen;
    std::chrono::microseconds largest{0};
    for (const auto& report : reports_) {
        if (++seen[report.cpu] <= spanning) {
            largest = std::max(largest, report.gap);
        }
    }
    return largest;
}

} // namespace wherry::tools
