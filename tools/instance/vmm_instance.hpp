// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/destination_session.hpp"
#include "migrate/image/guest_image.hpp"
#include "migrate/image/guest_restore.hpp"
#include "migrate/inquiry.hpp"
#include "migrate/reception.hpp"
#include "migrate/restarted_source.hpp"
#include "migrate/snapshot_session.hpp"
#include "migrate/source_session.hpp"
#include "tools/instance/api_server.hpp"
#include "tools/instance/instance.hpp"
#include "tools/instance/job.hpp"
#include "tools/instance/keeper.hpp"
#include "tools/instance/persons_word.hpp"
#include "tools/instance/registry.hpp"
#include "transport/connection.hpp"
#include "transport/io_thread.hpp"
#include "transport/task_group.hpp"

#include <atomic>
#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>

namespace wherry::tools {

/// One VM, or the place where one is to arrive, in this process: its machine, its jobs, its name
/// and its API. Everything happens on the thread that calls serve(), but for the sessions, which
/// have a thread of their own and come back with their outcome.
class VmmInstance {
public:
    VmmInstance(InstanceName name, vmm::MachineHost host);
    VmmInstance(const VmmInstance&) = delete;
    VmmInstance& operator=(const VmmInstance&) = delete;
    ~VmmInstance();

    /// Of this name; before all else.
    formats::Status open_journal();
    enum class Claim : std::uint8_t {
        ours,
        undecided, ///< its process ended during a hand-over: settle()
    };
    /// What the journal says of a VM that is to be started here. Refuses one that never runs again.
    formats::Result<Claim> claim_vm();
    using Starter = std::function<formats::Result<std::unique_ptr<vmm::Machine>>()>;
    /// Finds out who has it, with serve(); starts it where it is this side's. `start` is called on
    /// another thread.
    formats::Status settle(Starter start);
    formats::Status open_api();
    /// The machine is ours from now on, as it stands.
    void adopt(std::unique_ptr<vmm::Machine> machine);
    /// For the journal: where the certificates are.
    void set_tls_directory(std::string directory) { tls_directory_ = std::move(directory); }
    /// Whether the VM of an image may go on here, as this host's journal and the arbiter know it;
    /// of a snapshot, whether a new VM may have the name.
    formats::Status check_image(const migrate::ImageDescription& image, AskArbiter ask);
    /// It is this side's from now on: before it runs, and after check_image(). What comes of a
    /// snapshot is a new VM, with an id of its own.
    formats::Status claim_image(const migrate::ImageDescription& image, AskArbiter ask);
    formats::Status listen(const transport::Endpoint& at, transport::Security security);
    /// Of a VM that came here in an earlier process: listens where that did, with its certificates,
    /// for a source that has not heard that the VM is here. What is in the way is printed, and the
    /// VM needs none of it. After claim_vm(); does nothing for a VM that did not come.
    void listen_again();
    /// The VM of a new snapshot: it is nobody yet. Refused while a hand-over of the VM that had
    /// this name is open.
    formats::Status become_new_vm();
    /// To be told of by memory that comes out of an image.
    migrate::LazyMemoryEvents image_events();
    struct RestoredImage {
        std::filesystem::path path;
        formats::ImageDigest root{};
        migrate::LazyMemoryStatus last{}; ///< once all of it is here
    };
    /// As adopt(), with `memory` still coming; its events are image_events().
    void adopt_lazily(
        std::unique_ptr<vmm::Machine> machine,
        std::unique_ptr<migrate::LazyMemory> memory,
        RestoredImage image);
    /// Lets the guest go on.
    formats::Status start() { return machine_->resume(); }
    /// Until the VM is gone from here, for whatever reason.
    ExitCode serve();
    /// After serve(), before the destruction. False: a vCPU waits for a page that does not come,
    /// and must not go on without it. Then nothing of this may be destroyed: the process is to end
    /// as it stands.
    bool let_go_of_memory();

private:
    /// For the answers that are on their way out.
    static constexpr std::chrono::milliseconds shortest_farewell{50};
    enum class Situation : std::uint8_t {
        listening,
        incoming,
        present,
        handed_off,
        in_doubt,
        salvaged, ///< given up for good; its half of the memory is here
        ended
    };
    /// What is here of a VM that was salvaged.
    struct Half {
        migrate::ImageExtent extent{};
        /// What the machine's memory does not have.
        std::optional<dirtylog::DirtySet> missing;
        bool is_being_written = false;
    };

    /// Whether a VM may still come. Whoever changes it first decides: the session that has one in
    /// hand, or a user who ends this process.
    enum class Arrivals : std::uint8_t { awaited, begun, refused };

    // The API: vmm_instance_api.cpp.
    transport::Task<std::string> answer(ApiCall call);
    transport::Task<std::string> answer_job(ApiCall call);
    formats::Result<std::string> answer_vm(const ApiCall& call);
    formats::Result<std::string> start_migration(const std::string& body);
    // vmm_instance_resolve.cpp
    transport::Task<std::string> answer_resolve(std::string body);
    transport::Task<void> await_custody(migrate::Keep wished);
    formats::Status resolve(const PersonsWord& word);
    // vmm_instance_salvage.cpp
    transport::Task<std::string> answer_salvage(std::string body);
    transport::Task<void> give_up();
    formats::Status write_half(const std::filesystem::path& path);
    void keep_half(migrate::ImageExtent extent, std::optional<dirtylog::DirtySet> missing);
    [[nodiscard]] std::string explain_half() const;
    [[nodiscard]] std::optional<migrate::OwnershipRecord>
    last_record_of(const migrate::VmId& vm) const;
    // vmm_instance_image.cpp
    void keep_touch_order();
    void image_is_whole();
    void image_has_failed(const formats::Error& error);
    [[nodiscard]] std::optional<formats::Error> image_failure() const;
    transport::Task<void> retry_image();
    /// Begins the work of job_, at once or as soon as the guest's memory is all here, which is then
    /// hurried. Cancelled or failed before, the job ends without.
    void when_image_is_whole(std::move_only_function<void()> begin);
    void job_waits_no_more(const formats::Error& why);
    [[nodiscard]] std::string explain_image() const;
    void describe_image(api::Vm& vm) const;
    formats::Result<std::string> start_estimate(const std::string& body);
    formats::Result<std::string> start_snapshot(const std::string& body);
    formats::Status pause();
    transport::Task<std::string> answer_kill();
    transport::Task<void> end_in_hand_over();
    formats::Status kill();
    formats::Status check_held(const migrate::OwnershipRecord& record);
    formats::Status require_own_vm(std::string_view wish) const;
    /// As that, but for a job that has not begun yet.
    formats::Status require_control(std::string_view wish) const;
    transport::Task<std::string> answer_resume();
    [[nodiscard]] api::Vm describe() const;
    [[nodiscard]] std::string explain() const;
    [[nodiscard]] std::string explain_doubt() const;

    void snapshot_concluded(migrate::SnapshotOutcome outcome);
    void source_concluded(migrate::SourceOutcome outcome);
    void settled(const migrate::RestartedSourceOutcome& outcome);
    /// On the session's thread.
    formats::Result<std::unique_ptr<migrate::DestinationOwner>>
    owner_for(const migrate::Inquiry& inquiry, const std::string& peer);
    void remember_link(const migrate::Report& report);
    void estimate_concluded(formats::Result<migrate::Estimation> outcome);
    formats::Status open_listener(const transport::Endpoint& at, transport::Security security);
    [[nodiscard]] static migrate::ReceptionOptions manners();
    [[nodiscard]] std::string has_had_its_vm() const;
    [[nodiscard]] RecordOrigin origin_of_arrivals(const std::string& peer) const;
    /// On the session's thread: whoever connects is let in, and sources that ask are answered.
    void answer_the_door(
        migrate::Reception& reception,
        transport::Listener& listener,
        transport::TaskGroup& serving);
    /// On the session's thread, until a VM has come or begun to come.
    transport::Task<void> take_in(transport::Listener& listener);
    /// On the session's thread, for as long as the process lives.
    transport::Task<void> answer_past_source(transport::Listener& listener);
    void
    destination_concluded(const std::shared_ptr<Job>& job, migrate::DestinationOutcome outcome);
    void on_machine_end(const vmm::MachineEnd& end);
    void on_signal();
    /// False: too late, one has begun.
    bool refuse_arrivals();
    void conclude_guest_end();
    /// Of a job that has left the VM here: what ended meanwhile, or was to end, does so now.
    void catch_up_after_job();
    /// Takes the name away and ends serve() as soon as clients have heard the last news.
    void finish(ExitCode code);
    /// Ends serve() then; a later call replaces the delay.
    void leave_after(std::chrono::milliseconds delay);
    formats::Status check_name_is_free() const;
    [[nodiscard]] bool has_running_job() const { return job_ && job_->is_running(); }

    InstanceName name_;
    std::unique_ptr<InstanceKeeper> keeper_; ///< outlives sessions and doubts
    vmm::MachineHost host_;
    boost::asio::io_context context_{1};
    boost::asio::signal_set signals_{context_};
    boost::asio::steady_timer farewell_{context_};
    std::optional<ApiServer> api_;
    transport::IoThread session_;
    std::optional<transport::Listener> listener_; ///< the session's thread's, once listening
    std::string listens_on_;
    std::string tls_directory_;

    Situation situation_ = Situation::listening;
    std::atomic<Arrivals> arrivals_{Arrivals::awaited};
    std::unique_ptr<vmm::Machine> machine_;
    migrate::Epoch epoch_{};                       ///< of the VM that is here
    std::unique_ptr<migrate::InDoubtGuest> doubt_; ///< refers to machine_ and keeper_
    std::optional<Half> half_;
    std::optional<RestoredImage> image_;        ///< that the VM came out of lazily
    std::unique_ptr<migrate::LazyMemory> lazy_; ///< while pages are missing; refers to machine_
    std::move_only_function<void()> waits_for_image_; ///< what job_ is to do then
    bool is_stopping_ = false;                        ///< because of the image; on stopper_
    bool leaves_memory_ = false; ///< a vCPU may wait for some that will not come
    boost::asio::thread_pool stopper_{1};
    boost::asio::thread_pool image_writer_{1};
    /// Shared with the session that works on it.
    std::shared_ptr<Job> job_;
    /// Until its destination has heard what became of it; the VM may be here already.
    std::shared_ptr<Job> settling_;
    bool is_taking_in_ = false; ///< the session's thread's
    /// What became of the VM that came; the session's thread's.
    std::optional<migrate::DestinationState> arrived_as_;
    /// It came in an earlier process, with which it died; the session's thread's.
    bool was_booted_again_ = false;
    /// By the last migration of this VM that told, to here or from here.
    std::optional<migrate::KnownLink> known_link_;
    bool end_wanted_ = false; ///< a signal came while a job ran
    bool finishing_ = false;
    ExitCode exit_code_ = ExitCode::done;
};

/// This process becomes the instance of that name: `prepare` brings its VM, or where it will come
/// from. Errors are printed.
ExitCode serve_instance(
    const std::string& name,
    const vmm::MachineHost& host,
    const std::function<formats::Status(VmmInstance&)>& prepare);

} // namespace wherry::tools
