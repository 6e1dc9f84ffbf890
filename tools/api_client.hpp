// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/proto/api.pb.h"
#include "formats/result.hpp"

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace wherry::tools {

/// Talks to one VMM instance over its socket; one connection, calls one after another. Blocking,
/// for the command line. A refusal of the instance comes back as its Error.
class ApiClient {
public:
    static formats::Result<ApiClient> connect(const std::filesystem::path& socket);
    /// By the name of the instance.
    static formats::Result<ApiClient> connect_to(std::string_view name);
    ApiClient(ApiClient&&) noexcept;
    ApiClient& operator=(ApiClient&&) noexcept;
    ~ApiClient();

    formats::Result<api::Vm> vm();
    formats::Result<api::Vm> pause();
    formats::Result<api::Vm> resume();
    formats::Result<api::Vm> kill();
    formats::Result<api::Vm> resolve(const api::ResolveRequest& request);
    /// Comes back when the half is written, which may take minutes.
    formats::Result<api::Vm> salvage(const api::SalvageRequest& request);
    formats::Result<api::Job> migrate(const api::MigrateRequest& request);
    formats::Result<api::Job> estimate(const api::EstimateRequest& request);
    formats::Result<api::Job> snapshot(const api::SnapshotRequest& request);
    formats::Result<api::Job> job(std::string_view id);
    formats::Result<api::Job> cancel(std::string_view id);
    formats::Result<api::Job> switch_to_postcopy(std::string_view id);
    formats::Result<api::Job> tune(std::string_view id, const api::TuneRequest& request);
    /// Follows the job until it is over, calling `each` for every step, and returns its last form.
    /// `each` returns false to stop following; the job goes on.
    formats::Result<api::Job>
    watch(std::string_view id, const std::function<bool(const api::Job&)>& each);

private:
    struct Connection;
    explicit ApiClient(std::unique_ptr<Connection> connection);
    /// Every answer but a few is a matter of milliseconds; a process that is stopped gives none.
    static constexpr std::chrono::seconds usual_patience{5};
    formats::Result<std::string> request(
        std::string_view method,
        std::string_view target,
        std::string body,
        std::chrono::seconds patience = usual_patience);
    std::unique_ptr<Connection> connection_;
};

} // namespace wherry::tools
