// SPDX-License-Identifier: Apache-2.0
// set: changes what was asked of a migration while it is under way.
#include "tools/api_client.hpp"
#include "tools/cli/commands.hpp"
#include "tools/json.hpp"
#include "tools/quantities.hpp"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace wherry::tools {

namespace {

using formats::Result;
using formats::Status;

constexpr std::string_view no_limit = "none";

Status set_duration(std::string_view text, auto set) {
    const auto duration = parse_duration(text);
    if (!duration) {
        return formats::fail(duration.error());
    }
    set(static_cast<double>(duration->count()));
    return {};
}

Status apply(std::string_view key, std::string_view value, api::TuneRequest& request) {
    if (key == "downtime") {
        return set_duration(value, [&](double ms) { request.set_downtime_ms(ms); });
    }
    if (key == "on-stall") {
        request.set_on_stall(std::string{value});
        return {};
    }
    if (key == "deadline") {
        if (value == no_limit) {
            request.set_deadline_ms(0);
            return {};
        }
        return set_duration(value, [&](double ms) { request.set_deadline_ms(ms); });
    }
    if (key == "bandwidth" || key == "postcopy-bandwidth") {
        const auto bytes =
            value == no_limit ? Result<formats::Bytes>{formats::Bytes{0}} : parse_size(value);
        if (!bytes) {
            return formats::fail(bytes.error());
        }
        const auto rate = static_cast<double>(bytes->value());
        if (key == "bandwidth") {
            request.set_bandwidth(rate);
        } else {
            request.set_postcopy_bandwidth(rate);
        }
        return {};
    }
    return formats::fail(
        formats::ErrorCode::invalid_argument,
        fmt::format(
            "there is no '{}' to set; there are downtime, bandwidth, postcopy-bandwidth, deadline "
            "and "
            "on-stall",
            key));
}

Result<api::TuneRequest> request_from(const std::vector<std::string>& settings) {
    api::TuneRequest request;
    for (const std::string_view setting : settings) {
        const auto equals = setting.find('=');
        if (equals == std::string_view::npos) {
            return formats::fail(
                formats::ErrorCode::invalid_argument,
                fmt::format("'{}' is not of the form key=value, like bandwidth=500M", setting));
        }
        const auto applied = apply(setting.substr(0, equals), setting.substr(equals + 1), request);
        if (!applied) {
            return formats::fail(applied.error());
        }
    }
    return request;
}

ExitCode set(const std::string& name, const std::vector<std::string>& settings, bool json) {
    const auto request = request_from(settings);
    if (!request) {
        print_error(request.error());
        return ExitCode::usage;
    }
    auto client = ApiClient::connect_to(name);
    if (!client) {
        return fail_with(client.error());
    }
    const auto job = formats::then(client->vm(), [&](const api::Vm& vm) -> Result<api::Job> {
        if (vm.job().kind() != "migrate") {
            return formats::fail(
                formats::ErrorCode::wrong_state, vm.name() + " is not being migrated");
        }
        return client->tune(vm.job().id(), *request);
    });
    if (!job) {
        return fail_with(job.error());
    }
    if (json) {
        fmt::print("{}\n", to_json(*job, JsonLayout::one_line));
    } else {
        fmt::print("{}: {}\n", name, fmt::join(settings, " "));
    }
    return ExitCode::done;
}

struct Options {
    std::string name;
    std::vector<std::string> settings;
    bool json = false;
};

} // namespace

void add_set(CLI::App& app, Action& action) {
    const auto options = std::make_shared<Options>();
    auto* command = app.add_subcommand(
        "set",
        "Change a migration under way: downtime=, bandwidth= and postcopy-bandwidth= (or none),\n"
        "deadline= (or none; since its start), on-stall=. Example: wherry set a bandwidth=200M "
        "downtime=300ms");
    command->add_option("name", options->name, "The VM that is being migrated")->required();
    command->add_option("settings", options->settings, "key=value ...")->required();
    command->add_flag("--json", options->json, "The job as one JSON object");
    command->callback([&action, options] {
        action = [options] {
            return set(options->name, options->settings, options->json);
        };
    });
}

} // namespace wherry::tools
