import jax

# For float64, in our calls and in the references.
jax.config.update("jax_enable_x64", True)
