// SPDX-License-Identifier: Apache-2.0
#include "migrate/ownership/arbiter.hpp"

#include "migrate/ownership/etcd_arbiter.hpp"
#include "migrate/ownership/file_arbiter.hpp"

#include <array>
#include <charconv>

#include <fmt/format.h>

namespace wherry::migrate {

using formats::ErrorCode;
using formats::fail;
using formats::Result;

namespace {

constexpr std::string_view first_line = "wherry-arbiter 1\n";
constexpr std::array kinds{RecordKind::offered, RecordKind::committed, RecordKind::reclaimed};
constexpr std::array askers{Asker::source, Asker::destination, Asker::fenced_source};

std::string_view text_of(Asker asker) {
    switch (asker) {
    case Asker::source:
        return "source";
    case Asker::destination:
        return "destination";
    case Asker::fenced_source:
        return "source, the destination's host is dead for good";
    }
    return "";
}

/// "NAME NUMBER\n..." gives the number; 0 for anything else.
std::uint64_t number_after(std::string_view text, std::string_view name) {
    std::uint64_t number = 0;
    if (text.starts_with(name) && text.size() > name.size() + 1) {
        const auto* first = text.data() + name.size() + 1;
        std::from_chars(first, text.data() + text.size(), number);
    }
    return number;
}

constexpr std::string_view etcd_form = "etcd:HOST:PORT[,HOST:PORT...][?tls=DIR]";

Result<std::vector<transport::Endpoint>> endpoints_from(std::string_view text) {
    std::vector<transport::Endpoint> endpoints;
    for (;;) {
        const auto comma = text.find(',');
        auto endpoint = transport::Endpoint::parse(text.substr(0, comma));
        if (!endpoint) {
            return fail(std::move(endpoint).error());
        }
        endpoints.push_back(*std::move(endpoint));
        if (comma == std::string_view::npos) {
            return endpoints;
        }
        text.remove_prefix(comma + 1);
    }
}

/// Of what follows `etcd:`.
Result<std::unique_ptr<Arbiter>> etcd_from(std::string_view text) {
    constexpr std::string_view tls = "?tls=";
    const auto question = text.find('?');
    const auto option = question == std::string_view::npos ? "" : text.substr(question);
    auto endpoints = endpoints_from(text.substr(0, question));
    if (!endpoints) {
        return fail(std::move(endpoints).error().during(fmt::format("arbiter 'etcd:{}'", text)));
    }
    if (option.empty()) {
        return std::make_unique<EtcdArbiter>(*std::move(endpoints), std::filesystem::path{});
    }
    const std::filesystem::path directory{
        option.starts_with(tls) ? option.substr(tls.size()) : std::string_view{}};
    if (!directory.is_absolute()) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format("arbiter 'etcd:{}': write {}, where DIR begins with '/'", text, etcd_form));
    }
    return std::make_unique<EtcdArbiter>(*std::move(endpoints), directory);
}

} // namespace

Result<std::optional<ArbiterRecord>> Arbiter::read(const VmId& vm, Duration limit) {
    auto seen = look(vm, std::chrono::steady_clock::now() + limit);
    if (!seen) {
        return fail(std::move(seen).error().during("arbiter " + name()));
    }
    return seen->record;
}

Result<SwapOutcome>
Arbiter::request(const VmId& vm, const ArbiterRecord& wanted, Asker asker, Duration limit) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    for (;;) {
        auto seen = look(vm, deadline);
        if (!seen) {
            return fail(std::move(seen).error().during("arbiter " + name()));
        }
        const bool is_there = seen->record == wanted;
        if (is_there || !may_follow(seen->record, wanted, asker)) {
            return SwapOutcome{.is_done = is_there, .now = seen->record};
        }
        auto replaced = replace(vm, *seen, arbiter_text(wanted, asker), deadline);
        if (!replaced) {
            return fail(std::move(replaced).error().during("arbiter " + name()));
        }
        if (*replaced) {
            return SwapOutcome{.is_done = true, .now = wanted};
        }
        // Somebody was first. What is there now may be what was wanted, or still let it follow.
    }
}

Result<std::unique_ptr<Arbiter>> arbiter_from(std::string_view text) {
    constexpr std::string_view file = "file:";
    constexpr std::string_view etcd = "etcd:";
    if (text == "local") {
        return std::unique_ptr<Arbiter>{};
    }
    if (text.starts_with(etcd)) {
        return etcd_from(text.substr(etcd.size()));
    }
    if (!text.starts_with(file)) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format("'{}' is no arbiter: write local, file:DIR or {}", text, etcd_form));
    }
    const std::filesystem::path path{text.substr(file.size())};
    if (!path.is_absolute()) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format("arbiter '{}': the directory must begin with '/'", text));
    }
    return std::make_unique<FileArbiter>(path);
}

std::string arbiter_text(const ArbiterRecord& record, Asker asker) {
    return fmt::format(
        "{}{} {}\nby {}\n",
        first_line,
        name_of(record.kind),
        static_cast<std::uint64_t>(record.epoch),
        text_of(asker));
}

Result<ArbiterRecord> record_from_arbiter_text(std::string_view text) {
    const auto body = text.starts_with(first_line) ? text.substr(first_line.size()) : "";
    for (const RecordKind kind : kinds) {
        const ArbiterRecord record{.kind = kind, .epoch = Epoch{number_after(body, name_of(kind))}};
        for (const Asker asker : askers) {
            if (record.epoch != Epoch{} && arbiter_text(record, asker) == text) {
                return record;
            }
        }
    }
    return fail(ErrorCode::corrupted, "this is no record of wherry's");
}

} // namespace wherry::migrate
