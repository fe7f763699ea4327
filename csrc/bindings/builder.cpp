// EngineBuilder.
#include <pybind11/stl.h>
#include <unistd.h>

#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/error.h"
#include "bindings/backend.h"
#include "bindings/choice.h"
#include "bindings/read_config.h"
#include "kernels/select.h"
#include "model/engine.h"

namespace pygpt {

namespace {

constexpr py::ssize_t kMost = std::numeric_limits<int>::max();  // of rows and of columns

// Rows of blocks, (rows, bytes of a row).
Plain as_blocks(const std::string& name, const py::array& a, const BlockFormat& blocks) {
    if (!a.dtype().equal(py::dtype("uint8")) || a.ndim() != 2 || a.strides(1) != 1 || a.shape(1) % blocks.bytes != 0) {
        throw InvalidArgument("tensor '" + name + "' must be rows of whole " + blocks.name + " blocks, an array (n, " +
                              std::to_string(blocks.bytes) + " m) of uint8");
    }
    const py::ssize_t cols = a.shape(1) / blocks.bytes * blocks.values;
    if (a.shape(0) > kMost || cols > kMost) throw InvalidArgument("tensor '" + name + "' is too large");
    return {a.data(), DType::f32, static_cast<int>(a.shape(0)), static_cast<int>(cols), a.strides(0), 1, &blocks};
}

// A NumPy array of one or two dimensions, in place.
Plain as_plain(const std::string& name, const py::array& a, const std::string& dtype, const Kernels& kernels) {
    for (const BlockFormat& blocks : kernels.blocks) {
        if (dtype == blocks.name) return as_blocks(name, a, blocks);
    }
    const DType type = choose("dtype", dtype, {DType::f32, DType::f16, DType::bf16});
    const char* wanted = numpy_name(type);
    const auto item = static_cast<py::ssize_t>(size_of(type));
    if (!a.dtype().equal(py::dtype(wanted))) {
        throw InvalidArgument("tensor '" + name + "' of dtype " + dtype + " must be an array of " + wanted + ", not " +
                              py::str(a.dtype()).cast<std::string>());
    }
    if (a.ndim() != 1 && a.ndim() != 2) {
        throw InvalidArgument("tensor '" + name + "' must have 1 or 2 dimensions, not " + std::to_string(a.ndim()));
    }
    const py::ssize_t cols = a.ndim() == 2 ? a.shape(1) : 1;
    if (a.shape(0) > kMost || cols > kMost) throw InvalidArgument("tensor '" + name + "' is too large");
    const py::ssize_t row_stride = a.strides(0), col_stride = a.ndim() == 2 ? a.strides(1) : item;
    if (row_stride % item != 0 || col_stride % item != 0) {
        throw InvalidArgument("tensor '" + name + "' has strides that are not whole elements");
    }
    return {a.data(), type, static_cast<int>(a.shape(0)), static_cast<int>(cols), row_stride / item, col_stride / item};
}

// The values of an array that must be just what `wanted` says.
const void* as_packed(const PackedTensor& wanted, const py::object& given) {
    const auto fail = [&](const std::string& what) {
        throw InvalidArgument("tensor '" + wanted.name + "' must be a contiguous array of " + what);
    };
    const char* dtype = numpy_name(wanted.dtype);
    if (!py::isinstance<py::array>(given)) fail(dtype);
    const auto array = py::reinterpret_borrow<py::array>(given);
    if (!array.dtype().equal(py::dtype(dtype)) || (array.flags() & py::array::c_style) == 0) fail(dtype);
    const std::vector<std::size_t> shape(array.shape(), array.shape() + array.ndim());
    if (shape != wanted.shape) fail("shape " + py::str(py::tuple(py::cast(wanted.shape))).cast<std::string>());
    return array.data();
}

const LinearFormat& choose_format(const std::string& name, const Kernels& kernels) {
    std::vector<const char*> names;
    for (const LinearFormat& format : kernels.formats) names.push_back(format.name);
    return kernels.formats[choose("weights", name, names)];
}

const CacheFormat& choose_cache(const std::string& name, const Kernels& kernels, int head_dim) {
    std::vector<const char*> names;
    for (const CacheFormat& format : kernels.caches) names.push_back(format.name);
    const CacheFormat& format = kernels.caches[choose("kv", name, names)];
    if (format.most_head > 0 && head_dim > format.most_head) {
        throw InvalidArgument("kv='" + name + "' takes heads of up to " + std::to_string(format.most_head) +
                              " values, not " + std::to_string(head_dim));
    }
    return format;
}

class EngineBuilder {
public:
    EngineBuilder(const py::object& config, const std::string& weights, const std::string& kv, int threads,
                  const std::optional<std::string>& isa, const std::optional<std::string>& threads_backend)
        : config_(read_config(config)),
          kernels_(select_kernels(isa.value_or(""))),
          threads_(std::make_shared<const Threads>(threads, choose_backend(threads_backend))),
          cache_(choose_cache(kv, kernels_, config_.head_dim)),
          weights_(std::make_unique<WeightsBuilder>(config_, kernels_, choose_format(weights, kernels_))) {
        if (threads < 1 || threads > Threads::kMost) {
            throw InvalidArgument("threads must be at least 1 and at most " + std::to_string(Threads::kMost) +
                                  ", not " + std::to_string(threads));
        }
    }

    void add(const std::string& name, const py::array& array, const std::string& dtype,
             const std::optional<std::pair<int, std::int64_t>>& file) {
        Plain plain = as_plain(name, array, dtype, kernels_);
        if (file) std::tie(plain.fd, plain.offset) = *file;
        const auto lock = locked();
        const GilReleased released;
        threads_->run([&](Team& team) { builder().add(name, plain, team); });
    }

    std::size_t cache_bytes(int length) const {
        return PageLayout(config_, cache_, kernels_.cache(DType::f16)).bytes_at(length);
    }

    // What adopt() wants: {name: (dtype, shape)}, where `blocks` are the names of matrices in MXFP4.
    py::dict packed(const std::unordered_set<std::string>& blocks) {
        const auto lock = locked();
        builder().keep_blocks(blocks);
        py::dict out;
        for (const PackedTensor& t : builder().packed()) {
            out[py::str(t.name)] = py::make_tuple(name_of(t.dtype), py::tuple(py::cast(t.shape)));
        }
        return out;
    }

    void adopt(const py::dict& arrays) {
        const auto lock = locked();
        std::unordered_map<std::string, const void*> data;
        py::list matrices;
        for (const PackedTensor& t : builder().packed()) {
            if (!arrays.contains(t.name)) throw InvalidArgument("tensor '" + t.name + "' is missing");
            const py::object array = arrays[py::str(t.name)];
            data[t.name] = as_packed(t, array);
            if (t.shape.size() > 1) matrices.append(array);
        }
        if (data.size() != arrays.size()) throw InvalidArgument("there are tensors that this configuration lacks");
        // Matrices' arrays live as long as the weights, whose end may come on any thread.
        const std::shared_ptr<const void> owner(new py::list(matrices), [](const py::list* kept) {
            const py::gil_scoped_acquire gil;
            delete kept;
        });
        const GilReleased released;
        builder().adopt(data, owner);
    }

    std::shared_ptr<Engine> build() {
        const auto lock = locked();
        const GilReleased released;
        auto weights = builder().finish();
        weights_.reset();
        return std::make_shared<Engine>(config_, std::move(weights), kernels_, threads_, cache_.dtype);
    }

private:
    // Whoever holds the lock may be waiting for the interpreter, or, in a child process after fork(), never come back.
    std::unique_lock<std::mutex> locked() {
        const GilReleased released;
        if (getpid() == process_) return std::unique_lock(mutex_);
        std::unique_lock lock(mutex_, std::try_to_lock);
        if (!lock) throw InvalidArgument("this builder is in use, perhaps since before the process was forked");
        return lock;
    }

    WeightsBuilder& builder() {
        if (weights_ == nullptr) throw InvalidArgument("the engine has been built already");
        return *weights_;
    }

    ModelConfig config_;
    const Kernels& kernels_;
    std::shared_ptr<const Threads> threads_;
    const CacheFormat& cache_;
    const pid_t process_ = getpid();
    std::mutex mutex_;  // of weights_: Python's threads may call at once
    std::unique_ptr<WeightsBuilder> weights_;
};

}  // namespace

void bind_builder(py::module_& m) {
    py::class_<EngineBuilder>(m, "EngineBuilder")
        .def(py::init<const py::object&, const std::string&, const std::string&, int, const std::optional<std::string>&,
                      const std::optional<std::string>&>(),
             py::arg("config"), py::kw_only(), py::arg("weights"), py::arg("kv"), py::arg("threads"), py::arg("isa"),
             py::arg("threads_backend") = std::nullopt)
        .def("add", &EngineBuilder::add, py::arg("name"), py::arg("array"), py::arg("dtype"), py::kw_only(),
             py::arg("file") = std::nullopt)
        .def("packed", &EngineBuilder::packed, py::arg("blocks") = std::unordered_set<std::string>())
        .def("cache_bytes", &EngineBuilder::cache_bytes, py::arg("length"))
        .def("adopt", &EngineBuilder::adopt, py::arg("arrays"))
        .def("build", &EngineBuilder::build);
}

}  // namespace pygpt
