"""What people look at: terminal, figures, Markdown, TensorBoard. Importing it loads none of them."""
