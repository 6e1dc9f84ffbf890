// SPDX-License-Identifier: Apache-2.0
#include "tools/trial/trial.hpp"

#include "tools/api_client.hpp"
#include "tools/trial/child_process.hpp"
#include "transport/pki.hpp"

#include <array>
#include <fstream>
#include <sstream>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include <sys/mman.h>
#include <unistd.h>

namespace wherry::tools {

namespace fs = std::filesystem;
using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;
using Clock = std::chrono::steady_clock;

namespace {

constexpr std::chrono::milliseconds look_interval{20};
/// Of a guest's rate of work: long enough for a few of its reports.
constexpr std::chrono::milliseconds rate_window{200};
constexpr double recovered_share = 0.9;

/// A directory of our own, removed with everything in it.
class ScratchDirectory {
public:
    static Result<ScratchDirectory> make() {
        auto pattern = (fs::temp_directory_path() / "wherry-trial-XXXXXX").string();
        if (::mkdtemp(pattern.data()) == nullptr) {
            return fail(formats::system_error(errno, pattern));
        }
        return ScratchDirectory{pattern};
    }
    ScratchDirectory(ScratchDirectory&& other) noexcept : path_{std::exchange(other.path_, {})} {}
    ScratchDirectory& operator=(ScratchDirectory&&) = delete;
    ScratchDirectory(const ScratchDirectory&) = delete;
    ScratchDirectory& operator=(const ScratchDirectory&) = delete;
    ~ScratchDirectory() {
        if (!path_.empty()) {
            std::error_code ignored; // what is left in the temporary directory harms nobody
            fs::remove_all(path_, ignored);
        }
    }
    [[nodiscard]] fs::path operator/(std::string_view name) const { return path_ / name; }

private:
    explicit ScratchDirectory(fs::path path) : path_{std::move(path)} {}
    fs::path path_;
};

Status warm_up(formats::Bytes memory) {
    if (memory.value() == 0) {
        return {};
    }
    void* const touched = ::mmap(
        nullptr,
        memory.value(),
        PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
        -1,
        0);
    if (touched == MAP_FAILED) {
        return fail(formats::system_error(errno, "mmap of memory to warm up"));
    }
    ::munmap(touched, memory.value());
    return {};
}

std::string text_of(const fs::path& file) {
    std::ostringstream text;
    text << std::ifstream{file}.rdbuf();
    return std::move(text).str();
}

/// One VMM instance as a child process.
struct Instance {
    ChildProcess process;
    fs::path socket;
    fs::path messages;
    GuestLog log;

    std::unexpected<formats::Error> died(int code) const {
        return fail(
            ErrorCode::internal,
            fmt::format("a VMM process ended with code {}: {}", code, text_of(messages)));
    }
};

class Trial {
public:
    Trial(const TrialOptions& options, const TrialObserver& observer, ScratchDirectory scratch)
        : options_{options},
          observer_{observer},
          scratch_{std::move(scratch)} {}

    Result<TrialResult> run();
    Result<CancelTrialResult> run_cancelled(std::uint32_t throttle_percent);
    Result<SnapshotTrialResult> run_snapshot(const SnapshotTrialOptions& options);

private:
    Result<Instance> start(std::string_view name, std::vector<std::string> arguments);
    Result<Instance> start_source();
    Result<Instance> start_destination();
    /// Looks until `holds` or the instance dies or patience ends.
    Status await(Instance& instance, std::string_view what, const std::function<bool()>& holds);
    /// A guest and a destination for it, and both their APIs.
    struct Pair {
        Instance source;
        Instance destination;
        ApiClient source_api;
        std::string listen;
    };
    Result<Pair> start_both();
    Result<api::Job> begin_migration(ApiClient& source, const std::string& to);
    Result<api::Job> migrate(ApiClient& source, const std::string& to);
    Status await_full_sweep(Instance& destination, const GuestLog::Totals& before);

    const TrialOptions& options_;
    const TrialObserver& observer_;
    ScratchDirectory scratch_;
};

Result<Instance> Trial::start(std::string_view name, std::vector<std::string> arguments) {
    const auto log = scratch_ / fmt::format("{}.log", name);
    const auto messages = scratch_ / fmt::format("{}.messages", name);
    arguments.insert(arguments.begin(), options_.program.string());
    for (const auto& more :
         {std::string{"--name"},
          std::string{name},
          std::string{"--serial"},
          "file:" + log.string(),
          std::string{"--hypervisor"},
          options_.hypervisor}) {
        arguments.push_back(more);
    }
    // The names of a trial live in its own directory: they meet no VM of the user's.
    const std::array environment{
        "XDG_RUNTIME_DIR=" + (scratch_ / "").string(),
        "XDG_STATE_HOME=" + (scratch_ / "state").string()};
    auto process = ChildProcess::start(arguments, environment, messages);
    if (!process) {
        return fail(std::move(process).error());
    }
    Instance instance{
        .process = *std::move(process),
        .socket = scratch_ / fmt::format("wherry/{}.sock", name),
        .messages = messages,
        .log = GuestLog{log}};
    auto up =
        await(instance, "its API", [&] { return ApiClient::connect(instance.socket).has_value(); });
    if (!up) {
        return fail(std::move(up).error());
    }
    return instance;
}

Status Trial::await(Instance& instance, std::string_view what, const std::function<bool()>& holds) {
    const auto deadline = Clock::now() + options_.patience;
    while (!holds()) {
        if (const auto code = instance.process.poll()) {
            return instance.died(*code);
        }
        if (Clock::now() > deadline) {
            return fail(ErrorCode::timed_out, fmt::format("waited in vain for {}", what));
        }
        std::this_thread::sleep_for(look_interval);
        instance.log.refresh();
    }
    return {};
}

Result<Instance> Trial::start_source() {
    observer_.step("starting the guest");
    auto source = start(
        "source",
        {"run",
         "--memory",
         fmt::format("{}", options_.memory.value()),
         "--cpus",
         fmt::format("{}", options_.vcpus),
         "--kernel",
         options_.guest.string(),
         "--cmdline",
         options_.guest_options});
    if (!source) {
        return source;
    }
    auto ready = await(*source, "the guest to fill its memory", [&] {
        return source->log.ready() && !source->log.reports().empty();
    });
    if (!ready) {
        return fail(std::move(ready).error());
    }
    return source;
}

Result<Instance> Trial::start_destination() {
    return start(
        "destination",
        {"receive", "--listen", "127.0.0.1:0", "--tls", (scratch_ / "pki").string()});
}

Result<api::Job> Trial::begin_migration(ApiClient& source, const std::string& to) {
    api::MigrateRequest request;
    request.set_to(to);
    request.set_tls_directory((scratch_ / "pki").string());
    request.set_downtime_ms(static_cast<double>(options_.downtime.count()));
    request.set_streams(options_.streams);
    request.set_mode(options_.mode);
    request.set_on_stall(options_.on_stall);
    request.set_bandwidth(static_cast<double>(options_.bandwidth.value()));
    return source.migrate(request);
}

Result<api::Job> Trial::migrate(ApiClient& source, const std::string& to) {
    auto job = begin_migration(source, to);
    if (job) {
        job = source.watch(job->id(), [this](const api::Job& now) {
            observer_.progress(now);
            return true;
        });
    }
    if (job && job->state() != "done") {
        return fail(
            ErrorCode::internal,
            fmt::format("the migration ended as {}: {}", job->state(), job->failure().text()));
    }
    return job;
}

Status Trial::await_full_sweep(Instance& destination, const GuestLog::Totals& before) {
    // Two more turnings of the sweep's count, so that one whole sweep has begun and ended here.
    return await(destination, "the guest to check all its pages at the destination", [&] {
        return !destination.log.reports().empty() &&
               destination.log.totals().least_sweeps >= before.least_sweeps + 2;
    });
}

Result<Trial::Pair> Trial::start_both() {
    const std::array hosts{std::string{"localhost"}, std::string{"127.0.0.1"}};
    if (auto made = transport::make_pki(scratch_ / "pki", hosts); !made) {
        return fail(std::move(made).error());
    }
    auto source = start_source();
    if (!source) {
        return fail(std::move(source).error());
    }
    auto destination = start_destination();
    if (!destination) {
        return fail(std::move(destination).error());
    }
    auto source_api = ApiClient::connect(source->socket);
    auto listening = formats::then(
        ApiClient::connect(destination->socket), [](ApiClient client) { return client.vm(); });
    if (!source_api || !listening) {
        return fail(ErrorCode::internal, "a VMM process does not answer");
    }
    std::this_thread::sleep_for(options_.settle);
    return Pair{
        .source = *std::move(source),
        .destination = *std::move(destination),
        .source_api = *std::move(source_api),
        .listen = listening->listen()};
}

Result<TrialResult> Trial::run() {
    auto pair = start_both();
    if (!pair) {
        return fail(std::move(pair).error());
    }
    auto& [source, destination, source_api, listen] = *pair;
    TrialResult result;
    if (auto vm = source_api.vm(); vm) {
        result.hypervisor = vm->hypervisor();
    }
    if (auto warmed = warm_up(options_.warmed_memory); !warmed) {
        return fail(std::move(warmed).error());
    }
    source.log.refresh();
    const auto before = source.log.totals();
    const auto reports_before = source.log.reports().size();
    const auto started = Clock::now();
    observer_.step("moving it");
    auto job = migrate(source_api, listen);
    if (!job) {
        return fail(std::move(job).error());
    }
    const std::chrono::duration<double> took = Clock::now() - started;
    source.log.refresh();
    const auto left = source.log.totals();
    observer_.step("the guest checks all its memory at the destination");
    if (auto swept = await_full_sweep(destination, left); !swept) {
        return fail(std::move(swept).error());
    }
    result.job = *std::move(job);
    result.guest = destination.log.totals();
    result.dirty_rate =
        static_cast<double>(left.pages_dirtied - before.pages_dirtied) / took.count();
    result.felt_blackout = destination.log.hand_over_gap();
    result.longest_gap = result.felt_blackout;
    const auto& reports = source.log.reports();
    for (auto at = reports_before; at < reports.size(); ++at) {
        result.longest_gap = std::max(result.longest_gap, reports[at].gap);
    }
    return result;
}

Result<CancelTrialResult> Trial::run_cancelled(std::uint32_t throttle_percent) {
    auto pair = start_both();
    if (!pair) {
        return fail(std::move(pair).error());
    }
    auto& [source, destination, source_api, listen] = *pair;
    GuestLog& log = source.log;
    const auto last_rate = [&log](std::size_t begin) {
        const auto count = log.reports().size();
        return count > begin ? log.rate(begin, count - 1, rate_window) : std::nullopt;
    };
    log.refresh();
    const auto before = log.rate(0, log.reports().size() - 1, options_.settle / 2);
    if (!before) {
        return fail(ErrorCode::internal, "the guest has not reported its work");
    }
    CancelTrialResult result;
    result.rate_before = *before;
    observer_.step("moving it, in vain");
    auto job = begin_migration(source_api, listen);
    if (job) {
        job = source_api.watch(job->id(), [&](const api::Job& now) {
            result.throttle_percent = now.progress().throttle_percent();
            return result.throttle_percent < throttle_percent;
        });
    }
    if (!job || result.throttle_percent < throttle_percent) {
        return job ? fail(ErrorCode::internal, "the migration ended before the guest was slow")
                   : fail(std::move(job).error());
    }
    std::this_thread::sleep_for(2 * rate_window);
    log.refresh();
    result.rate_meanwhile = last_rate(0).value_or(0);
    observer_.step("cancelling it");
    const auto reports_before = log.reports().size();
    const auto cancelled = Clock::now();
    const auto since = [cancelled] {
        return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - cancelled);
    };
    job = source_api.cancel(job->id());
    if (job) {
        job = source_api.watch(job->id(), [](const api::Job&) { return true; });
    }
    if (!job) {
        return fail(std::move(job).error());
    }
    result.answered = since();
    auto recovered = await(source, "the guest to be as fast as before", [&] {
        result.rate_after = last_rate(reports_before).value_or(0);
        result.recovered = since();
        return result.rate_after >= recovered_share * result.rate_before;
    });
    if (!recovered) {
        return fail(std::move(recovered).error());
    }
    result.guest = log.totals();
    return result;
}

Result<SnapshotTrialResult> Trial::run_snapshot(const SnapshotTrialOptions& options) {
    auto vm = start_source();
    if (!vm) {
        return fail(std::move(vm).error());
    }
    auto client = ApiClient::connect(vm->socket);
    if (!client) {
        return fail(std::move(client).error());
    }
    std::this_thread::sleep_for(options_.settle);
    vm->log.refresh();
    const auto reports_before = vm->log.reports().size();
    const auto file = options.directory / fmt::format("wherry-trial-{}.wimg", ::getpid());
    api::SnapshotRequest request;
    request.set_file(fs::absolute(file).string());
    request.set_layout(options.layout);
    request.set_downtime_ms(static_cast<double>(options_.downtime.count()));
    auto job = client->snapshot(request);
    if (job) {
        job = client->watch(job->id(), [this](const api::Job& now) {
            observer_.progress(now);
            return true;
        });
    }
    std::error_code ignored; // it may not be there
    fs::remove(file, ignored);
    if (!job) {
        return fail(std::move(job).error());
    }
    if (job->state() != "done") {
        return fail(
            ErrorCode::internal,
            fmt::format("the snapshot ended as {}: {}", job->state(), job->failure().text()));
    }
    // The report under way at the end is of the snapshot too.
    vm->log.refresh();
    const auto reports_at_end = vm->log.reports().size();
    auto reported = await(
        *vm, "the guest to report", [&] { return vm->log.reports().size() > reports_at_end; });
    if (!reported) {
        return fail(std::move(reported).error());
    }
    SnapshotTrialResult result;
    result.job = *std::move(job);
    result.guest = vm->log.totals();
    const auto& reports = vm->log.reports();
    // The first one may be of before.
    for (auto at = reports_before + 1; at < reports.size(); ++at) {
        result.longest_gap = std::max(result.longest_gap, reports[at].gap);
    }
    return result;
}

} // namespace

Result<CancelTrialResult> run_cancel_trial(
    const TrialOptions& options, std::uint32_t throttle_percent, const TrialObserver& observer) {
    return formats::then(ScratchDirectory::make(), [&](ScratchDirectory scratch) {
        return Trial{options, observer, std::move(scratch)}.run_cancelled(throttle_percent);
    });
}

Result<SnapshotTrialResult>
run_snapshot_trial(const SnapshotTrialOptions& options, const TrialObserver& observer) {
    return formats::then(ScratchDirectory::make(), [&](ScratchDirectory scratch) {
        return Trial{options.guest, observer, std::move(scratch)}.run_snapshot(options);
    });
}

Result<TrialResult> run_trial(const TrialOptions& options, const TrialObserver& observer) {
    return formats::then(ScratchDirectory::make(), [&](ScratchDirectory scratch) {
        return Trial{options, observer, std::move(scratch)}.run();
    });
}

fs::path own_program() {
    return fs::read_symlink("/proc/self/exe");
}

Result<fs::path> find_test_guest() {
    const auto here = own_program().parent_path();
    const std::array places{here / "../guests/workload.elf", here / "../share/wherry/workload.elf"};
    for (const auto& place : places) {
        if (fs::exists(place)) {
            return fs::weakly_canonical(place);
        }
    }
    return fail(
        ErrorCode::not_found,
        fmt::format(
            "the test guest is not at {}; build it (target guests) or name it with --guest",
            places.front().string()));
}

} // namespace wherry::tools
