// SPDX-License-Identifier: Apache-2.0
#include "migrate/ownership/etcd_arbiter.hpp"

#include "formats/error_message.hpp"
#include "formats/proto/etcd.pb.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <google/protobuf/util/json_util.h>

namespace wherry::migrate {

using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;

namespace {

constexpr unsigned ok_status = 200;
constexpr unsigned first_server_failure = 500; // a member without a leader, for example
constexpr std::chrono::seconds kept_for{10};

std::string key_of(const VmId& vm) {
    return "wherry/vm/" + vm.to_string();
}

std::string to_json(const google::protobuf::Message& message) {
    google::protobuf::util::JsonPrintOptions options;
    options.preserve_proto_field_names = true;
    std::string text;
    const auto printed = google::protobuf::util::MessageToJsonString(message, &text, options);
    formats::invariant(printed.ok(), "every request to etcd has a JSON form");
    return text;
}

Status from_json(const std::string& text, google::protobuf::Message& into) {
    google::protobuf::util::JsonParseOptions options;
    options.ignore_unknown_fields = true;
    const auto parsed = google::protobuf::util::JsonStringToMessage(text, &into, options);
    return parsed.ok() ? Status{}
                       : fail(
                             ErrorCode::protocol,
                             "this is no answer of etcd's v3 API: " +
                                 formats::sanitised(parsed.ToString()));
}

/// What etcd says went wrong.
formats::Error refusal(const transport::Endpoint& from, const transport::HttpAnswer& answer) {
    formats::proto::EtcdFailure failure;
    const bool is_etcd = from_json(answer.body, failure).has_value();
    const auto reason = is_etcd ? failure.error() : answer.body.substr(0, answer.body.find('\n'));
    return formats::Error{
        answer.status >= first_server_failure ? ErrorCode::unreachable : ErrorCode::refused,
        fmt::format(
            "{} answered {}: {}",
            from.to_string(),
            answer.status,
            formats::sanitised(reason.empty() ? "(no reason)" : reason))};
}

} // namespace

EtcdArbiter::EtcdArbiter(
    std::vector<transport::Endpoint> endpoints, std::filesystem::path tls_directory)
    : endpoints_{std::move(endpoints)},
      tls_directory_{std::move(tls_directory)} {
    formats::invariant(!endpoints_.empty(), "etcd has an endpoint");
}

std::string EtcdArbiter::name() const {
    std::vector<std::string> all;
    std::ranges::transform(endpoints_, std::back_inserter(all), &transport::Endpoint::to_string);
    return fmt::format(
        "etcd:{}{}",
        fmt::join(all, ","),
        tls_directory_.empty() ? "" : "?tls=" + tls_directory_.string());
}

Result<transport::Security> EtcdArbiter::security() const {
    if (tls_directory_.empty()) {
        return transport::Insecure{};
    }
    auto context = transport::TlsContext::for_client(tls_directory_, {.protocol = {}, .now = {}});
    if (!context) {
        return fail(std::move(context).error());
    }
    return *std::move(context);
}

Result<Arbiter::Seen> EtcdArbiter::look(const VmId& vm, Deadline deadline) {
    formats::proto::EtcdRangeRequest request;
    request.set_key(key_of(vm));
    formats::proto::EtcdRangeResponse response;
    auto called = call("/v3/kv/range", request, response, deadline);
    if (!called) {
        return fail(std::move(called).error());
    }
    if (response.kvs().empty()) {
        return Seen{};
    }
    const auto& found = response.kvs(0);
    if (response.kvs_size() != 1 || found.key() != request.key() || found.mod_revision() <= 0) {
        return fail(ErrorCode::protocol, "etcd answered with keys that were not asked for");
    }
    auto record = record_from_arbiter_text(found.value());
    if (!record) {
        return fail(
            ErrorCode::corrupted,
            fmt::format(
                "key {}: {}; learn from both hosts who has the VM (wherry status), then delete it",
                request.key(),
                record.error().text()));
    }
    return Seen{.record = *record, .revision = static_cast<std::uint64_t>(found.mod_revision())};
}

Result<bool>
EtcdArbiter::replace(const VmId& vm, const Seen& seen, std::string text, Deadline deadline) {
    formats::proto::EtcdTxnRequest request;
    auto* compare = request.add_compare();
    compare->set_result("EQUAL");
    compare->set_target("MOD");
    compare->set_key(key_of(vm));
    compare->set_mod_revision(static_cast<std::int64_t>(seen.revision));
    auto* put = request.add_success()->mutable_request_put();
    put->set_key(key_of(vm));
    put->set_value(std::move(text));
    formats::proto::EtcdTxnResponse response;
    auto called = call("/v3/kv/txn", request, response, deadline);
    if (!called) {
        return fail(std::move(called).error());
    }
    return response.succeeded();
}

template <typename T>
Result<T> EtcdArbiter::run(std::size_t endpoint, transport::Task<T> task, Deadline deadline) {
    std::optional<Result<T>> outcome;
    const auto limit = deadline - std::chrono::steady_clock::now();
    io_.restart();
    transport::spawn(
        io_.get_executor(),
        transport::within(limit, std::move(task)),
        [&outcome](Result<T> result) { outcome = std::move(result); });
    while (!outcome && io_.run_one() > 0) {
    }
    formats::invariant(outcome.has_value(), "a task that was spawned ends");
    if (!*outcome && outcome->error().code() == ErrorCode::timed_out) {
        return fail(ErrorCode::timed_out, endpoints_[endpoint].to_string() + " does not answer");
    }
    return *std::move(outcome);
}

Result<transport::HttpAnswer>
EtcdArbiter::post_on_kept(const transport::HttpPost& what, Deadline deadline) {
    auto answer = run(kept_->endpoint, kept_->connection->post(what), deadline);
    kept_->used = std::chrono::steady_clock::now();
    if (!answer || !answer->may_go_on) {
        kept_.reset();
    }
    return answer;
}

Result<transport::HttpAnswer>
EtcdArbiter::post(std::size_t endpoint, const transport::HttpPost& what, Deadline deadline) {
    if (kept_ && kept_->endpoint == endpoint &&
        std::chrono::steady_clock::now() - kept_->used < kept_for) {
        auto answer = post_on_kept(what, deadline);
        // It may have ended since the last call. Whatever is asked may be asked again.
        if (answer || answer.error().code() != ErrorCode::connection_lost) {
            return answer;
        }
    }
    kept_.reset();
    auto secured = security();
    if (!secured) {
        return fail(std::move(secured).error());
    }
    auto opened =
        run(endpoint,
            transport::HttpConnection::open(endpoints_[endpoint], *std::move(secured)),
            deadline);
    if (!opened) {
        return fail(std::move(opened).error());
    }
    kept_ = Kept{.endpoint = endpoint, .connection = *std::move(opened), .used = {}};
    return post_on_kept(what, deadline);
}

Status EtcdArbiter::call(
    std::string_view path,
    const google::protobuf::Message& request,
    google::protobuf::Message& response,
    Deadline deadline) {
    std::optional<formats::Error> last;
    for (std::size_t tried = 0; tried < endpoints_.size(); ++tried) {
        const auto at = (first_ + tried) % endpoints_.size();
        const auto now = std::chrono::steady_clock::now();
        const auto share = (deadline - now) / static_cast<std::int64_t>(endpoints_.size() - tried);
        auto answer =
            post(at, {.target = std::string{path}, .body = to_json(request)}, now + share);
        if (!answer) {
            last = std::move(answer).error();
        } else if (answer->status == ok_status) {
            first_ = at;
            return from_json(answer->body, response);
        } else {
            last = refusal(endpoints_[at], *answer);
            if (last->code() == ErrorCode::refused) {
                break;
            }
        }
    }
    return fail(*std::move(last));
}

} // namespace wherry::migrate
