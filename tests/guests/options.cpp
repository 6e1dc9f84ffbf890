// SPDX-License-Identifier: Apache-2.0
#include "tests/guests/options.hpp"

#include <optional>

namespace wherry::guest {

namespace {

enum class Unit { plain, size };

std::optional<std::uint64_t> parse_number(std::string_view text, Unit unit) noexcept {
    std::uint64_t value = 0;
    unsigned shift = 0;
    if (unit == Unit::size && !text.empty()) {
        const char last = text.back();
        shift = last == 'K' ? 10 : last == 'M' ? 20 : last == 'G' ? 30 : 0;
        text.remove_suffix(shift != 0 ? 1 : 0);
    }
    if (text.empty() || text.size() > 15) {
        return std::nullopt;
    }
    for (const char c : text) {
        if (c < '0' || c > '9') {
            return std::nullopt;
        }
        value = value * 10 + static_cast<std::uint64_t>(c - '0');
    }
    if (value > (~std::uint64_t{0} >> shift)) {
        return std::nullopt;
    }
    return value << shift;
}

/// Result of trying one key: an empty string when the value was taken, else what is accepted.
using Remedy = std::string_view;

template <typename Number>
Remedy take_number(
    std::string_view value,
    Number& into,
    std::uint64_t least,
    std::uint64_t most,
    Remedy remedy,
    Unit unit = Unit::plain) noexcept {
    const auto number = parse_number(value, unit);
    if (!number || *number < least || *number > most) {
        return remedy;
    }
    into = static_cast<Number>(*number);
    return {};
}

Remedy take_rate(std::string_view value, std::uint64_t& into) noexcept {
    if (value == "max") {
        into = unlimited_rate;
        return {};
    }
    return take_number(value, into, 0, 100'000'000, "pages per second, 0 to 100000000, or max");
}

Remedy take_flag(std::string_view value, bool& into) noexcept {
    if (value != "0" && value != "1") {
        return "0 or 1";
    }
    into = value == "1";
    return {};
}

template <typename Choice>
struct Named {
    std::string_view name;
    Choice choice;
};

template <typename Choice, std::size_t count>
Remedy take_choice(
    std::string_view value,
    Choice& into,
    const Named<Choice> (&names)[count],
    Remedy remedy) noexcept {
    for (const auto& named : names) {
        if (named.name == value) {
            into = named.choice;
            return {};
        }
    }
    return remedy;
}

struct Percents {
    bool zero = false;
    bool compressible = false;
    bool random = false;
};

std::optional<Remedy>
take_load(std::string_view key, std::string_view value, Options& o, Percents& given) noexcept {
    constexpr Remedy percent = "a percentage, 0 to 100";
    if (key == "zero") {
        given.zero = true;
        return take_number(value, o.zero_percent, 0, 100, percent);
    }
    if (key == "compressible") {
        given.compressible = true;
        return take_number(value, o.compressible_percent, 0, 100, percent);
    }
    if (key == "random") {
        given.random = true;
        return take_number(value, o.random_percent, 0, 100, percent);
    }
    if (key == "hot") {
        return take_number(value, o.hot_bytes, 0, 1ULL << 40, "a size such as 64M", Unit::size);
    }
    if (key == "rate") {
        return take_rate(value, o.dirty_rate);
    }
    if (key == "check") {
        return take_rate(value, o.check_rate);
    }
    if (key == "touch") {
        return take_flag(value, o.touch_zero);
    }
    if (key == "check-zero") {
        return take_flag(value, o.check_zero);
    }
    if (key == "pattern") {
        return take_choice(
            value,
            o.order,
            {{"random", HotOrder::random}, {"sequential", HotOrder::sequential}},
            "random or sequential");
    }
    if (key == "hot-layout") {
        return take_choice(
            value,
            o.layout,
            {{"run", HotLayout::run}, {"spread", HotLayout::spread}},
            "run or spread");
    }
    return std::nullopt;
}

std::optional<Remedy>
take_conduct(std::string_view key, std::string_view value, Options& o) noexcept {
    if (key == "report") {
        return take_number(value, o.report_ms, 1, 60'000, "milliseconds, 1 to 60000");
    }
    if (key == "exit-after") {
        return take_number(value, o.exit_after_ms, 0, 86'400'000, "milliseconds, 0 for never");
    }
    if (key == "tick") {
        return take_number(value, o.tick_us, 50, 10'000, "microseconds, 50 to 10000");
    }
    if (key == "cpus") {
        return take_number(value, o.cpu_count, 1, 4, "1 to 4");
    }
    if (key == "tsc_khz") {
        return take_number(value, o.tsc_khz, 1'000, 10'000'000, "kHz");
    }
    if (key == "ring") { // acted on in ring 0, see descriptors.cpp
        return value == "0" || value == "3" || value == "auto" ? Remedy{} : "0, 3 or auto";
    }
    if (key == "idle") {
        return take_choice(
            value,
            o.idle,
            {{"auto", IdleMode::automatic}, {"hlt", IdleMode::halt}, {"spin", IdleMode::spin}},
            "auto, hlt or spin");
    }
    if (key == "apic") {
        return take_choice(
            value,
            o.apic,
            {{"auto", ApicMode::automatic}, {"x", ApicMode::xapic}, {"x2", ApicMode::x2apic}},
            "auto, x or x2");
    }
    if (key == "fault") {
        return take_choice(
            value,
            o.fault,
            {{"none", Fault::none},
             {"stale", Fault::stale},
             {"torn", Fault::torn},
             {"lost", Fault::lost},
             {"table", Fault::table},
             {"ledger", Fault::ledger},
             {"everything", Fault::everything}},
            "none, stale, torn, lost, table, ledger or everything");
    }
    if (key == "fault-after") {
        return take_number(value, o.fault_after_ms, 0, 86'400'000, "milliseconds");
    }
    return std::nullopt;
}

/// Percentages that were left out take up the rest: all of it goes to the last class left out.
bool complete_percents(Options& o, const Percents& given) noexcept {
    if (!given.zero && !given.compressible && !given.random) {
        return true;
    }
    std::uint32_t* rest = nullptr;
    const auto leave_out = [&rest](std::uint32_t& percent, bool was_given) {
        if (!was_given) {
            percent = 0;
            rest = &percent;
        }
    };
    leave_out(o.zero_percent, given.zero);
    leave_out(o.compressible_percent, given.compressible);
    leave_out(o.random_percent, given.random);
    const auto sum = o.zero_percent + o.compressible_percent + o.random_percent;
    if (rest != nullptr && sum <= 100) {
        *rest = 100 - sum;
        return true;
    }
    return sum == 100;
}

/// What comes before the first of two separators; all of it if there is none.
std::string_view first_part(std::string_view text, char separator, char other) noexcept {
    std::size_t size = 0;
    while (size < text.size() && text[size] != separator && text[size] != other) {
        ++size;
    }
    return {text.data(), size};
}

} // namespace

OptionProblem parse_options(
    std::string_view line, Options& options, void (*on_unknown)(std::string_view)) noexcept {
    Percents given;
    while (true) {
        while (!line.empty() && (line.front() == ' ' || line.front() == '\t')) {
            line.remove_prefix(1);
        }
        if (line.empty()) {
            break;
        }
        const auto token = first_part(line, ' ', '\t');
        line.remove_prefix(token.size());
        const auto key = first_part(token, '=', '=');
        auto value = token;
        value.remove_prefix(key.size() == token.size() ? key.size() : key.size() + 1);
        auto remedy = take_load(key, value, options, given);
        if (!remedy) {
            remedy = take_conduct(key, value, options);
        }
        if (!remedy) {
            on_unknown(token);
        } else if (!remedy->empty()) {
            return {token, *remedy};
        }
    }
    if (!complete_percents(options, given)) {
        return {"zero, compressible, random", "percentages that add up to 100"};
    }
    return {};
}

} // namespace wherry::guest
